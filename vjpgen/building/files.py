"""Reading and writing files, so that no reader ever sees half a file."""

from __future__ import annotations

import errno
import os
import re
import stat
from contextlib import suppress
from functools import cache

_AT_ONCE = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_CLOEXEC", 0)
)
_TEMPORARY = r"^\..+\.(?P<pid>[1-9]\d{0,9})-[0-9a-f]{12}\.tmp$"


def read(path: str) -> bytes:
    """Return the bytes of a file; what is no file, as a pipe, is an error and is not waited for."""
    descriptor = os.open(path, _AT_ONCE)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        parts = []
        while part := os.read(descriptor, status.st_size + 1):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)


def read_if_there(path: str) -> bytes | None:
    """Return the bytes of a file, or None where there is none."""
    try:
        return read(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def write(path: str, data: bytes) -> None:
    """Put `data` at `path` in one step; an existing file keeps its mode, a link its target."""
    target = os.path.realpath(path)
    _sweep(os.path.dirname(target))
    temporary = _temporary_name(target)
    try:
        _create(temporary, data)
        _keep_mode(target, temporary)
        os.replace(temporary, target)
    except BaseException:
        _discard(temporary)
        raise


def copy(source: str, path: str) -> None:
    """Put a copy of a file at `path` in one step, with its mode."""
    from shutil import copyfile

    temporary = _temporary_name(path)
    try:
        _create(temporary, b"")
        copyfile(source, temporary)
        os.chmod(temporary, os.stat(source).st_mode & 0o777)
        os.replace(temporary, path)
    except BaseException:
        _discard(temporary)
        raise


def remove_empty_folders(folder: str, last: str) -> None:
    """Remove a folder and those above it as far as they are empty, `last` as well."""
    while True:
        try:
            os.rmdir(folder)
        except OSError:  # not empty, or gone
            if os.path.isdir(folder):
                return
        if folder == last:
            return
        folder = os.path.dirname(folder)


def remove(path: str) -> None:
    """Remove a file; one that is gone already is no failure."""
    _discard(path)


def is_temporary(name: str) -> bool:
    """Whether this is a name that files have here before they are whole."""
    return name.endswith(".tmp") and re.search(_TEMPORARY, name) is not None


def _temporary_name(path: str) -> str:
    """A name in the same folder that no tool takes for a Python file."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.{os.getpid()}-{os.urandom(6).hex()}.tmp")


@cache
def _sweep(folder: str) -> None:
    """Remove what killed builds have left in a folder; each process looks once at each folder."""
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        match = re.search(_TEMPORARY, name) if name.endswith(".tmp") else None
        if match is not None and not _is_alive(int(match["pid"])):
            with suppress(OSError):
                _discard(os.path.join(folder, name))


def _is_alive(pid: int) -> bool:
    """Whether a process runs; where that cannot be asked without harm it counts as running."""
    if os.name == "nt":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _create(path: str, data: bytes) -> None:
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0)
    with open(os.open(path, flags, 0o666), "wb") as file:
        file.write(data)


def _keep_mode(old: str, new: str) -> None:
    try:
        mode = os.stat(old).st_mode
    except FileNotFoundError:
        return
    os.chmod(new, mode & 0o7777)


def _discard(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
