"""Compiling in several processes, any of which can die without taking the run with it."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import IO

from vjpgen.building.compiling import Made, Task, failed, make

LINES_EACH = 1_500
_SERVE = "import sys; sys.path[:] = {path!r}; from vjpgen.building.workers import serve; serve()"


def helpful(lines: int, limit: int | None) -> int:
    """Return how many processes get so many lines compiled soonest.

    A process has to start and to load libcst before it is of use.

    Args:
        lines: the lines of all sources to compile.
        limit: the most that the user allows; None for as many as there are processors.
    """
    most = _processors() if limit is None else limit
    return max(1, min(most, lines // LINES_EACH)) if sys.executable else 1


def _processors() -> int:
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def make_all(tasks: Sequence[Task], processes: int) -> Iterator[tuple[int, Made]]:
    """Compile every task; yield the number of each with what it gave, as they are done.

    Args:
        tasks: what to compile.
        processes: how many processes to compile in; 1 compiles in this one.
    """
    if processes == 1:
        yield from enumerate(map(make, tasks))
        return
    from concurrent.futures import ThreadPoolExecutor, as_completed

    with ThreadPoolExecutor(processes) as threads, _Crew() as crew:
        largest_first = sorted(range(len(tasks)), key=lambda number: -len(tasks[number].data))
        numbers = {threads.submit(crew.make, tasks[number]): number for number in largest_first}
        for future in as_completed(numbers):
            yield numbers[future], future.result()


class _Crew:
    """Processes that compile, each for one thread at a time."""

    def __init__(self) -> None:
        self._all: list[_Process] = []
        self._idle: list[_Process] = []
        self._closed = False

    def __enter__(self) -> _Crew:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        for process in self._all:
            process.end()

    def make(self, task: Task) -> Made:
        """Compile in an idle process, or in a new one; where it dies the task is to blame."""
        if self._closed:
            return Made(failed(task, "the run has ended"))
        process = self._take()
        try:
            made = process.make(task)
        except (OSError, EOFError, pickle.UnpicklingError):
            return Made(failed(task, f"its process ended with status {process.end()}"))
        self._idle.append(process)
        return made

    def _take(self) -> _Process:
        try:
            return self._idle.pop()
        except IndexError:
            process = _Process()
            self._all.append(process)
            return process


class _Process:
    """A process that serves tasks through pipes."""

    def __init__(self) -> None:
        command = [sys.executable, "-c", _SERVE.format(path=sys.path)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL
        )
        self._sender = pickle.Pickler(_open(self._process.stdin))  # sends what tasks share once

    def make(self, task: Task) -> Made:
        """Send a task and wait for what it gives."""
        self._sender.dump(task)
        _open(self._process.stdin).flush()
        return pickle.load(_open(self._process.stdout))

    def end(self) -> int:
        """End the process if it still runs; return its exit status."""
        self._process.kill()
        status = self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                _open(pipe).close()
            except OSError:  # what was still to be sent to a dead process
                continue
        return status


def _open(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


def serve() -> None:
    """Compile the tasks that standard input holds until it ends; write what they give."""
    tasks, made = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    sys.stdout = sys.stderr  # whatever prints must not disturb the results
    receiver = pickle.Unpickler(tasks)
    try:
        while True:
            pickle.dump(make(receiver.load()), made)
            made.flush()
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return
