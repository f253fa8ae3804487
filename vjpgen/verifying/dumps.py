"""Where a process hung or crashed, from what `faulthandler` wrote of it."""

from __future__ import annotations

import os
import re
import sysconfig

from vjpgen.testing.libraries import HIDDEN

_DUMP = re.compile(r"^(?:Timeout \(|Fatal Python error: )", re.MULTILINE)
_THREAD = re.compile(r"^(?P<current>Current t|T)hread 0x", re.MULTILINE)
_FRAME = re.compile(r'^  File "(?P<file>.*)", line (?P<line>\d+) in (?P<name>.*)$', re.MULTILINE)
_GENERATED = "_vjp_"
_LIBRARIES = tuple(os.path.join(sysconfig.get_path(name), "") for name in ("stdlib", "purelib"))


def where(printed: str) -> tuple[str, str]:
    """Part what user code has printed from the place where it hung or crashed.

    Returns:
        What was printed, and ", in `NAME` at FILE:LINE"; empty where that is not known.
    """
    found = _DUMP.search(printed)
    if found is None:
        return printed, ""
    own, dump = printed[: found.start()], printed[found.start() :]
    for frame in _FRAME.finditer(dump, *_thread(dump)):
        file, name = frame["file"], frame["name"]
        if not file.startswith((*HIDDEN, *_LIBRARIES, "<")) and not name.startswith(_GENERATED):
            return own, f", in `{name}` at {file}:{frame['line']}"
    return own, ""


def _thread(dump: str) -> tuple[int, int]:
    """Return where the thread that matters stands: the current one, else the main one, the last."""
    threads = list(_THREAD.finditer(dump))
    if not threads:
        return 0, 0
    current = next((n for n, each in enumerate(threads) if each["current"] != "T"), -1)
    ends = [*(each.start() for each in threads[1:]), len(dump)]
    return threads[current].start(), ends[current]
