"""What tells a file from its later versions without reading it, as git does it."""

from __future__ import annotations

import os

_MICROSECOND = 1_000
_SECOND = 1_000_000_000


def signature(status: os.stat_result) -> str:
    """Return what a change of the file would change: times, size and inode."""
    return f"{status.st_mtime_ns} {status.st_ctime_ns} {status.st_size} {status.st_ino}"


def is_settled(status: os.stat_result, now: int) -> bool:
    """Whether a change after `now`, in nanoseconds, would surely show in the signature.

    It would not where the file system's clock has not ticked since the last change.
    """
    changed = max(status.st_mtime_ns, status.st_ctime_ns)
    return changed + _tick(changed) < now


def _tick(time: int) -> int:
    """Return how long a file system that gave such a time may give the same one."""
    if time % _MICROSECOND:
        return _SECOND // 50
    return _SECOND // 10 if time % _SECOND else 2 * _SECOND
