"""The child process: starting it, talking to it, telling how it ended."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from vjpgen.verifying.requests import Request

_BOOT = "import sys; sys.path[:] = {path!r}; from vjpgen.verifying.child import main; main()"
_GRACE_SECONDS = 1.0
_LAST_BYTES = 8192


class TimeUpError(Exception):
    """The child has not answered in time."""


class DiedError(Exception):
    """The child has ended; the text says how."""


class Child:
    """A process that verifies rules.

    It talks to its parent over copies of its standard input and output, which user code does not
    know of: what that prints goes to a file, with what it writes to standard error. It leads a
    process group of its own, so that it ends with whatever it has started.
    """

    def __init__(self) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        self._seen = 0
        self._messages: queue.SimpleQueue[Mapping[str, Any] | None] = queue.SimpleQueue()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BOOT.format(path=sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
        )
        reader = threading.Thread(target=self._read, daemon=True)
        reader.start()
        threading.Thread(target=self._wait, args=(reader,), daemon=True).start()

    def send(self, request: Request) -> None:
        """Ask for a rule to be verified."""
        self._seen = self._size()
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # that it has died is told where its answer is awaited
            self._process.stdin.write(request.as_line())
            self._process.stdin.flush()

    def receive(self, seconds: float | None = None) -> Mapping[str, Any]:
        """Wait for the next message.

        Raises:
            TimeUpError: there is none in time.
            DiedError: the child has ended.
        """
        try:
            message = self._messages.get(timeout=seconds)
        except queue.Empty:
            raise TimeUpError from None
        if message is None:
            raise DiedError(_how(self._process.returncode))
        return message

    def said(self) -> str:
        """Return what was printed since the last request, no more than the end of it."""
        start = max(self._seen, self._size() - _LAST_BYTES)
        return os.pread(self._errors.fileno(), _LAST_BYTES, start).decode(errors="replace")

    def end(self) -> None:
        """End the process, and those that it has started."""
        if self._process.poll() is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._errors):
            with suppress(OSError):  # of bytes that could not be sent
                stream.close()  # pyright: ignore[reportOptionalMemberAccess]

    def _size(self) -> int:
        return os.fstat(self._errors.fileno()).st_size

    def _read(self) -> None:
        stream = self._process.stdout
        assert stream is not None
        with stream:
            for line in stream:
                self._messages.put(json.loads(line))

    def _wait(self, reader: threading.Thread) -> None:
        """Say that the process has ended, once all that it said was read.

        A process that it has started may hold its output open.
        """
        self._process.wait()
        reader.join(_GRACE_SECONDS)
        self._messages.put(None)


def _how(status: int) -> str:
    """Say how a process has ended."""
    if status >= 0:
        return f"exit status {status}"
    with suppress(ValueError):
        name = signal.Signals(-status).name
        return f"killed by {name} ({signal.strsignal(-status)})"
    return f"killed by signal {-status}"


class Clock:
    """The time that is left."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.start = time.monotonic()

    @property
    def spent(self) -> float:
        """The seconds since the start."""
        return time.monotonic() - self.start

    @property
    def left(self) -> float:
        """The seconds until the end, at least none."""
        return max(0.0, self.seconds - self.spent)
