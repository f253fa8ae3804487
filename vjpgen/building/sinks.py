"""What becomes of a difference between the disk and what should be there."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from vjpgen.building import files
from vjpgen.building.outcome import Change, State
from vjpgen.diagnostics import WHOLE_FILE, Diagnostic
from vjpgen.diagnostics.text import decode

Say = Callable[[str], None]

_BUILD = "run `vjpgen build`"
_DRIFT = {
    State.MISSING: ("is missing: {source} has no generated module yet", _BUILD),
    State.STALE: ("is stale: it is not what {source} gives now", _BUILD),
    State.EDITED: (
        "was edited by hand: its digest does not fit its text",
        "put the change into {source}, then run `vjpgen build`",
    ),
    State.ORPHANED: ("is orphaned: no annotated {source} gives it any more", _BUILD),
}
_KEPT = "remove it once nothing in it is needed"


class Sink(Protocol):
    """Takes each difference, and returns what there is to report about it."""

    changes: int

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

    def accept(self, change: Change) -> Iterable[Diagnostic]:
        """Write or remove the generated module, unless that would lose a person's work."""
        if change.keep:
            return (drift(change),)
        if change.new is None:
            files.remove(change.path)
        else:
            files.write(change.path, change.new)
        self.changes += 1
        self.say(_said(change))
        return ()


@dataclass
class CheckSink:
    """Reports every difference as drift."""

    changes: int = 0

    def accept(self, change: Change) -> Iterable[Diagnostic]:
        """Report the difference."""
        self.changes += 1
        return (drift(change),)


@dataclass
class DiffSink:
    """Prints what would change; with `check`, reports it as drift, too."""

    say: Say
    check: bool
    changes: int = 0

    def accept(self, change: Change) -> Iterable[Diagnostic]:
        """Print the difference."""
        self.changes += 1
        if not change.keep:
            self.say("".join(_diff(change)))
        return (drift(change),) if self.check or change.keep else ()


def drift(change: Change) -> Diagnostic:
    """Report a difference as VJP904."""
    text, help_ = _DRIFT[change.state]
    source = change.source
    help_ = _KEPT if change.keep else help_.format(source=source)
    message = f"{change.shown} {text.format(source=source)}"
    return Diagnostic("VJP904", message, change.shown, WHOLE_FILE, help_)


def _said(change: Change) -> str:
    if change.state is State.EDITED:
        return f"Restored {change.shown}, which was edited by hand"
    if change.state is State.ORPHANED:
        return f"Removed {change.shown}"
    return f"Wrote {change.shown}"


def _diff(change: Change) -> Iterator[str]:
    before = "/dev/null" if change.old is None else change.shown
    after = "/dev/null" if change.new is None else change.shown
    for line in difflib.unified_diff(_lines(change.old), _lines(change.new), before, after):
        yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


def _lines(data: bytes | None) -> list[str]:
    return [] if data is None else decode(data).splitlines(keepends=True)
