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
from vjpgen.diagnostics.catalogue.entry import Entry, Example, files_of

__all__ = ["CATALOGUE", "FAMILIES", "Entry", "Example", "files_of", "fitting", "nearest"]

FAMILIES = {
    "VJP0": "The annotation as text",
    "VJP1": "The names that an annotation uses",
    "VJP2": "The shape of the annotated function and of its rule",
    "VJP3": "What a backward rule does",
    "VJP4": "The modules of a project",
    "VJP9": "Files, as they are read and written",
}


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


def fitting(text: str) -> tuple[Entry, ...]:
    """Return the entries of a code or of the beginning of some, as "VJP3"; letter case is free."""
    start = text.upper()
    is_prefix = start.startswith("VJP")
    return tuple(entry for code, entry in CATALOGUE.items() if is_prefix and code.startswith(start))


def nearest(text: str) -> str | None:
    """Return the code most like `text`, or None where nothing is like it."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(text.upper(), CATALOGUE, n=1, cutoff=0.5)), None)
