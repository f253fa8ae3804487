"""What is on disk beside what should be there."""

from __future__ import annotations

import os
from collections.abc import Container
from dataclasses import dataclass, field
from enum import Enum

from vjpgen.building.files import read, read_if_there
from vjpgen.building.gather import Generated, holds_annotation
from vjpgen.building.manifest import Entry, digest_of
from vjpgen.building.plan import Job
from vjpgen.compiler import parse_header
from vjpgen.diagnostics import WHOLE_FILE, Diagnostic


class State(Enum):
    """How a generated module on disk differs from what would be written."""

    FRESH = "fresh"
    MISSING = "missing"
    STALE = "stale"
    EDITED = "edited by hand"
    ORPHANED = "orphaned"
    FOREIGN = "not written by vjpgen"


class What(Enum):
    """What kind of file vjpgen writes."""

    MODULE = "generated module"
    COPY = "copy"
    RECORD = "record of what was written"


@dataclass(frozen=True)
class Change:
    """One difference between the disk and what should be there.

    Args:
        path: the absolute path of the generated module, or whatever it is.
        shown: that path as the user would write it.
        source: the source's path as the user would write it.
        state: how the two differ.
        old: what is on disk; None for nothing, or where a copy is or was.
        new: what should be there; None for nothing, or where a copy should be.
        keep: whether the file must stay although it should not be there.
        what: what kind of file it is.
        copied: the absolute path of the file that should be copied there; None for none.
    """

    path: str
    shown: str
    source: str
    state: State
    old: bytes | None = field(repr=False)
    new: bytes | None = field(repr=False)
    keep: bool = False
    what: What = What.MODULE
    copied: str | None = None


def compare(job: Job, new: bytes) -> Change:
    """Compare what was generated with what is on disk."""
    place = job.place
    is_folder = os.path.isdir(place.path)
    old = None if is_folder else read_if_there(place.path)
    state = State.FOREIGN if is_folder else _state(old, new, place.recorded)
    if state is not State.FRESH and place.leads_out():
        state = State.FOREIGN
    return Change(place.path, place.shown, job.file.shown, state, old, new)


def _state(old: bytes | None, new: bytes, recorded: Entry | None) -> State:
    if old is None:
        return State.MISSING
    if old == new:
        return State.FRESH
    header = parse_header(old)
    is_intact = header.intact if header is not None else _as_copied(old, recorded)
    if is_intact is None:
        return State.FOREIGN
    return State.STALE if is_intact else State.EDITED


def _as_copied(data: bytes, recorded: Entry | None) -> bool | None:
    """Whether a file is still as vjpgen copied it there; None where vjpgen copied nothing."""
    if recorded is None or not recorded.digests:
        return None
    return digest_of(data) in recorded.digests


def foreign(change: Change, advice: str) -> Diagnostic:
    """Report a file of the user's where a file of ours should go."""
    message = f"{change.shown} exists and was not written by vjpgen"
    return Diagnostic("VJP901", message, change.shown, WHOLE_FILE, advice)


def orphan(module: Generated, annotated: Container[str]) -> Change | None:
    """Return the change for a module whose source is gone or has no annotation any more.

    Args:
        module: a generated module.
        annotated: the absolute paths of sources that are known to be annotated.
    """
    in_place = module.source_name is not None
    source = module.source_name or module.origin_name
    path = os.path.join(os.path.dirname(module.file.path), source)
    if in_place and (path in annotated or _is_annotated_file(path)):
        return None
    old = read_if_there(module.file.path)
    header = None if old is None else parse_header(old)
    if header is None:  # gone, or no module of ours, by now
        return None
    shown = os.path.join(os.path.dirname(module.file.shown), source)
    keep = not (header.intact and in_place)
    return Change(module.file.path, module.file.shown, shown, State.ORPHANED, old, None, keep)


def _is_annotated_file(path: str) -> bool:
    """Whether a file is there and annotated; one that cannot be read counts, to be safe."""
    try:
        return os.path.isfile(path) and holds_annotation(read(path))
    except OSError:
        return True
