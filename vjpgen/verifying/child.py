"""The process that imports the user's code and runs it; `vjpgen.verifying.process` starts it."""

from __future__ import annotations

import faulthandler
import json
import os
import queue
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from vjpgen.verifying.requests import Request


def main() -> None:
    """Answer requests until there are no more."""
    requests, replies = _own_pipes()
    faulthandler.enable()
    waiting: queue.SimpleQueue[Request] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(requests, waiting), daemon=True).start()
    from vjpgen.verifying.work import Worker

    worker = Worker()
    _write(replies, {"ready": True})
    while True:
        request = waiting.get()
        with _watched(request):
            report = worker.load(request)
        if report is None:
            _write(replies, {"imported": True})
            with _watched(request):
                report = worker.verify(request)
        _write(replies, {"report": report.as_data()})


@contextmanager
def _watched(request: Request) -> Iterator[None]:
    """Have it written to standard error where this process is, once the time is up."""
    faulthandler.dump_traceback_later(request.manner.time_limit)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def _own_pipes() -> tuple[IO[bytes], int]:
    """Take standard input and output; others read nothing, and print to standard error."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # pyright: ignore
    return requests, replies


def _read(requests: IO[bytes], waiting: queue.SimpleQueue[Request]) -> None:
    """Pass requests on; end the process with its parent, whatever it is busy with."""
    for line in requests:
        waiting.put(Request.from_line(line))
    os._exit(0)


def _write(replies: int, message: dict[str, Any]) -> None:
    data = json.dumps(message).encode() + b"\n"
    while data:
        data = data[os.write(replies, data) :]
