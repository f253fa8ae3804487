"""A build that found nothing to do leaves a stamp: the next one only asks whether anything changed.

A stamp names all that the build looked at: folders, files in them, and places where a file would
have changed the outcome. While their signatures are the same, so is the outcome. This module
imports nothing that takes time; that is its point.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence

from vjpgen._version import __version__
from vjpgen.building.cachedir import LONGEST_SECONDS, cache_folder
from vjpgen.building.signatures import is_settled, signature

_FOLDER = "stamps"
_DIGEST_SIZE = 32


def find(arguments: Sequence[str]) -> str | None:
    """Return what a build with these arguments said, if it would do and say the same again."""
    try:
        with open(_path(arguments), "rb") as file:
            data = file.read()
        if hashlib.sha256(data[_DIGEST_SIZE:]).digest() != data[:_DIGEST_SIZE]:
            return None
        said, digest, places = json.loads(data[_DIGEST_SIZE:])
    except (OSError, ValueError):
        return None
    return said if _digest(_statuses(places)) == digest else None


def leave(
    arguments: Sequence[str], said: str, places: Mapping[str, Iterable[str]], now: int
) -> None:
    """Note that a build with these arguments found nothing to do.

    Args:
        arguments: the command line.
        said: what the build printed to standard error.
        places: the names that were looked at, present or not, by their folder.
        now: when the build began to look, in nanoseconds.
    """
    from vjpgen.building.files import write

    listed = {folder: sorted(names) for folder, names in places.items()}
    statuses = list(_statuses(listed))
    if not all(is_settled(status, now) for status in statuses if status is not None):
        return
    content = json.dumps([said, _digest(statuses), listed]).encode()
    path = _path(arguments)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        _forget(os.path.dirname(path), now)
        write(path, hashlib.sha256(content).digest() + content)
    except OSError:  # a cache that cannot be written is none
        return


def _forget(folder: str, now: int) -> None:
    """Remove the stamps that were left long ago; one that is still of use is soon left again."""
    for name in os.listdir(folder):
        status = _status(path := os.path.join(folder, name))
        if status is not None and status.st_mtime + LONGEST_SECONDS < now / 1e9:
            os.unlink(path)


def own_places() -> dict[str, list[str]]:
    """Return the files of vjpgen itself and what tells libcst's version, by folder."""
    from importlib.util import find_spec

    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    places = {}
    for start in (package, os.path.join(os.path.dirname(package), "templates")):
        for folder, _, names in os.walk(start):
            if os.path.basename(folder) != "__pycache__":
                places[folder] = [name for name in names if name.endswith(".py")]
    libcst = find_spec("libcst")
    if libcst is not None and libcst.origin is not None:
        places[os.path.dirname(libcst.origin)] = ["__init__.py", "_version.py"]
    return places


def _path(arguments: Sequence[str]) -> str:
    key = repr((list(arguments), os.getcwd(), __version__, sys.version, sys.path))
    name = hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()[:32]
    return os.path.join(cache_folder(), _FOLDER, name)


def _digest(statuses: Iterable[os.stat_result | None]) -> str:
    """Return a digest of what is and what is not there."""
    signs = ("-" if status is None else signature(status) for status in statuses)
    return hashlib.sha256("\n".join(signs).encode()).hexdigest()


def _statuses(places: Mapping[str, Sequence[str]]) -> Iterator[os.stat_result | None]:
    """Yield the status of each folder and of each name in it; None for what is not there."""
    for folder, names in places.items():
        yield _status(folder)
        start = os.path.join(folder, "")
        for name in names:
            yield _status(start + name)


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except (OSError, ValueError):
        return None
