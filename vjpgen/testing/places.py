"""What a report calls a rule, and where it stands."""

from __future__ import annotations

import os
from dataclasses import dataclass

from vjpgen.testing.ruled import Ruled, where_written


@dataclass(frozen=True)
class Place:
    """What a report calls a rule, and where it stands.

    Args:
        name: the qualified name of the function.
        filename: the file of the annotation; that of the backward rule, or of the function, where
            there is none.
        line: its line, from 1.
        column: its column, from 1.
    """

    name: str
    filename: str = ""
    line: int = 0
    column: int = 0


def place_of(about: Ruled) -> Place:
    """Return where a rule stands."""
    at = about.rule.at if about.rule is not None else ""
    filename, _, line = at.rpartition(":")
    if line.isdigit():
        return Place(about.name, filename, int(line), 1)
    filename, row = where_written(about)
    return Place(about.name, _shown(filename), row, 1) if row else Place(about.name)


def _shown(filename: str) -> str:
    """Write a path below the current folder from there on."""
    below = os.path.relpath(filename)
    return filename if below.startswith(os.pardir) else below
