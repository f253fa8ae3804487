"""The one table of every code: its severity, its text and its example."""

from __future__ import annotations

from collections.abc import Iterable

from vjpgen.diagnostics.catalogue import (
    comments,
    files,
    gradients,
    modules,
    names,
    signatures,
)
from vjpgen.diagnostics.catalogue.entry import Entry

__all__ = ["CATALOGUE", "Entry", "nearest"]


def _table(families: Iterable[tuple[Entry, ...]]) -> dict[str, Entry]:
    entries = [entry for family in families for entry in family]
    return {entry.code: entry for entry in entries}


CATALOGUE: dict[str, Entry] = _table(
    [
        comments.ENTRIES,
        names.ENTRIES,
        signatures.ENTRIES,
        gradients.ENTRIES,
        modules.ENTRIES,
        files.ENTRIES,
    ]
)


def nearest(text: str) -> str | None:
    """Return the code most like `text`, or None where nothing is like it."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(text.upper(), CATALOGUE, n=1, cutoff=0.5)), None)
