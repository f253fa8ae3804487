"""Comparing copies with the files that they were made from."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vjpgen.building import files
from vjpgen.building.cache import Cache
from vjpgen.building.layout import Place
from vjpgen.building.manifest import Digest, Entry
from vjpgen.building.outcome import State
from vjpgen.building.signatures import is_settled, signature
from vjpgen.compiler import parse_header

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Memory:
    """Which copies are known to be like their sources, so that neither need be read.

    Args:
        known: by name in the mirror, the signatures of source and copy, and their digest.
        learnt: what this run has found out, likewise.
        now: when this run began to read files, in nanoseconds.
    """

    known: Mapping[str, Any]
    learnt: dict[str, str] = field(default_factory=dict)
    now: int = 0

    def digest(self, name: str, source: os.stat_result, copy: os.stat_result) -> str | None:
        """Return the digest of a file and its copy, if they are known to be alike."""
        known, signatures = self.known.get(name), _signatures(source, copy)
        if not isinstance(known, str) or not known.startswith(signatures):
            return None
        return known.removeprefix(signatures)

    def learn(self, name: str, source: os.stat_result, copy: os.stat_result, digest: str) -> None:
        """Remember that a file and its copy are alike; the two were asked for before reading."""
        if is_settled(source, self.now) and is_settled(copy, self.now):
            self.learnt[name] = _signatures(source, copy) + digest


def recall(cache: Cache, out: str, now: int) -> Memory:
    """Return what earlier runs found out about the copies in a folder."""
    known = cache.recall(_NOTE + out)
    return Memory(known if isinstance(known, dict) else {}, now=now)


def remember(cache: Cache, out: str, memory: Memory, recorded: Mapping[str, Entry]) -> None:
    """Keep what this run found out, and what is still true of the rest."""
    every = {**memory.known, **memory.learnt}
    kept = {name: every[name] for name in every if name in recorded}
    if kept != memory.known:
        cache.remember(_NOTE + out, kept)


_NOTE = "copies in "


def _signatures(source: os.stat_result, copy: os.stat_result) -> str:
    return f"{signature(source)} {signature(copy)} "


def compare_copy(name: str, source: str, place: Place, memory: Memory) -> tuple[State, str]:
    """Compare a file with its copy.

    Args:
        name: the copy's path in the mirror.
        source: the file's path.
        place: where the copy is.
        memory: what is known of it.

    Returns:
        How the two differ, and the file's digest.

    Raises:
        OSError: where one of them cannot be read.
    """
    before, status = os.stat(source), status_of(place.path)
    if status is not None and not stat.S_ISREG(status.st_mode):
        return State.FOREIGN, ""
    known = None if status is None else memory.digest(name, before, status)
    if known is not None:
        return State.FRESH, known
    same, digest = _same(source, place.path if status is not None else None)
    if same and status is not None and _is_executable(before) == _is_executable(status):
        memory.learn(name, before, status, digest)
        return State.FRESH, digest
    if place.leads_out():
        return State.FOREIGN, digest
    if status is None:
        return State.MISSING, digest
    is_intact = same or is_as_written(place, place.recorded)
    if is_intact is None:
        return State.FOREIGN, digest
    return State.STALE if is_intact else State.EDITED, digest


def is_as_written(place: Place, recorded: Entry | None) -> bool | None:
    """Whether a file is as vjpgen wrote it; None where there is none, or none of vjpgen's.

    Raises:
        OSError: where it cannot be read.
    """
    status = status_of(place.path)
    if status is None or not stat.S_ISREG(status.st_mode) or place.leads_out():
        return None
    if recorded is not None and _same(place.path, None)[1] in recorded.digests:
        return True
    header = parse_header(files.read(place.path)) if place.path.endswith(".py") else None
    if header is not None:
        return header.intact
    return False if recorded is not None and recorded.digests else None


def status_of(path: str) -> os.stat_result | None:
    """Return the status of a file, links not followed; None where there is none."""
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _is_executable(status: os.stat_result) -> bool:
    return bool(status.st_mode & stat.S_IXUSR)


def _same(source: str, path: str | None) -> tuple[bool, str]:
    """Compare two files by bytes; return the first one's digest, too."""
    counted = Digest()
    with open(source, "rb") as left, open(path or os.devnull, "rb") as right:
        same = path is not None
        while chunk := left.read(_CHUNK):
            counted.add(chunk)
            same = same and right.read(len(chunk)) == chunk
        return same and not right.read(1), counted.text()
