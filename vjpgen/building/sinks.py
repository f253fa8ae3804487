"""What becomes of a difference between the disk and what should be there."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from vjpgen.building import files
from vjpgen.building.outcome import Change, State, What
from vjpgen.diagnostics import WHOLE_FILE, Diagnostic
from vjpgen.diagnostics.text import decode

Say = Callable[[str], None]

_LOOKED_AT = 8000
_BUILD = "run `{command}`"
_PUT_BACK = "put the change into {source}, then run `{command}`"
_DRIFT = {
    (What.MODULE, State.MISSING): ("is missing: {source} has no generated module yet", _BUILD),
    (What.MODULE, State.STALE): ("is stale: it is not what {source} gives now", _BUILD),
    (What.MODULE, State.EDITED): (
        "was edited by hand: its digest does not fit its text",
        _PUT_BACK,
    ),
    (What.MODULE, State.ORPHANED): (
        "is orphaned: no annotated {source} gives it any more",
        _BUILD,
    ),
    (What.COPY, State.MISSING): ("is missing: {source} has not been copied there yet", _BUILD),
    (What.COPY, State.STALE): ("is stale: it is not {source} as it is now", _BUILD),
    (What.COPY, State.EDITED): (
        "was edited by hand: it is not what was copied there from {source}",
        _PUT_BACK,
    ),
    (What.COPY, State.ORPHANED): ("is orphaned: no {source} gives it any more", _BUILD),
    (What.RECORD, State.MISSING): ("is missing: it says what vjpgen wrote in {source}", _BUILD),
    (What.RECORD, State.STALE): ("is stale: it does not say what lies in {source} now", _BUILD),
}
_KEPT = "remove it once nothing in it is needed"


class Sink(Protocol):
    """Takes each difference, and returns what there is to report about it."""

    changes: int

    @property
    def writes(self) -> bool:
        """Whether differences are put right."""
        ...

    def accept(self, change: Change) -> Iterable[Diagnostic]:
        """Deal with one difference."""
        ...


@dataclass
class WriteSink:
    """Puts right what differs, and says so.

    Args:
        say: is given one line for each file that was changed.
    """

    say: Say
    changes: int = 0
    writes: bool = True

    def accept(self, change: Change) -> Iterable[Diagnostic]:
        """Write or remove the generated module, unless that would lose a person's work."""
        if change.keep:
            return (drift(change),)
        _put(change)
        self.changes += 1
        self.say(_said(change))
        return ()


@dataclass
class CheckSink:
    """Reports every difference as drift.

    Args:
        command: what puts it right.
    """

    command: str = "vjpgen build"
    changes: int = 0
    writes: bool = False

    def accept(self, change: Change) -> Iterable[Diagnostic]:
        """Report the difference."""
        self.changes += 1
        return (drift(change, self.command),)


@dataclass
class DiffSink:
    """Prints what would change; with `check`, reports it as drift, too.

    Args:
        say: is given what would change, as `patch` reads it.
        check: whether it is reported.
        command: what puts it right.
    """

    say: Say
    check: bool
    command: str = "vjpgen build"
    changes: int = 0
    writes: bool = False

    def accept(self, change: Change) -> Iterable[Diagnostic]:
        """Print the difference."""
        self.changes += 1
        if not change.keep:
            self.say("".join(_diff(change)))
        return (drift(change, self.command),) if self.check or change.keep else ()


def drift(change: Change, command: str = "vjpgen build") -> Diagnostic:
    """Report a difference as VJP904.

    Args:
        change: the difference.
        command: what puts it right.
    """
    text, help_ = _DRIFT[change.what, change.state]
    source = change.source
    help_ = _KEPT if change.keep else help_.format(source=source, command=command)
    message = f"{change.shown} {text.format(source=source)}"
    return Diagnostic("VJP904", message, change.shown, WHOLE_FILE, help_)


def _put(change: Change) -> None:
    """Make the disk what it should be."""
    if change.copied is None and change.new is None:
        files.remove(change.path)
        return
    os.makedirs(os.path.dirname(change.path), exist_ok=True)
    if change.copied is not None:
        files.copy(change.copied, change.path)
    elif change.new is not None:
        files.write(change.path, change.new)


def _said(change: Change) -> str:
    if change.state is State.EDITED:
        return f"Restored {change.shown}, which was edited by hand"
    if change.state is State.ORPHANED:
        return f"Removed {change.shown}"
    return f"Wrote {change.shown}"


def _diff(change: Change) -> Iterator[str]:
    old, new = _sides(change)
    before = "/dev/null" if old is None else change.shown
    after = "/dev/null" if new is None else change.shown
    if change.what is What.COPY and (_is_binary(old) or _is_binary(new)):
        yield f"Binary files {before} and {after} differ\n"
    elif old == new:
        yield f"The mode of {change.shown} differs from that of {change.source}\n"
    elif not old and not new:
        yield f"--- {before}\n+++ {after}\n"
    else:
        yield from _unified(_lines(old), _lines(new), before, after)


def _sides(change: Change) -> tuple[bytes | None, bytes | None]:
    """What is on disk, and what should be there."""
    if change.what is not What.COPY:
        return change.old, change.new
    new = None if change.copied is None else files.read(change.copied)
    return files.read_if_there(change.path), new


def _unified(old: list[str], new: list[str], before: str, after: str) -> Iterator[str]:
    for line in difflib.unified_diff(old, new, before, after):
        yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


def _is_binary(data: bytes | None) -> bool:
    return data is not None and b"\0" in data[:_LOOKED_AT]


def _lines(data: bytes | None) -> list[str]:
    return [] if data is None else decode(data).splitlines(keepends=True)
