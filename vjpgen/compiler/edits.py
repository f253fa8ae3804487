"""Edits to a text, applied all at once and undone again to prove that nothing else changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Edit:
    """Put `text` in place of what stands from `start` to `end`, which are equal to insert.

    `row` is the row of the source that the new lines stand for, 0 for the one they come to.
    """

    start: int
    end: int
    text: str
    row: int = 0


def apply(text: str, edits: Sequence[Edit]) -> str:
    """The text with every edit made; edits must not overlap."""
    pieces: list[str] = []
    position = 0
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end)):
        assert edit.start >= position, "edits overlap"
        pieces += [text[position : edit.start], edit.text]
        position = edit.end
    return "".join([*pieces, text[position:]])


def undo(output: str, text: str, edits: Sequence[Edit]) -> str:
    """The text that `apply` was given, taken from its output alone but for what was replaced."""
    pieces: list[str] = []
    position = shift = 0
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end)):
        begin = edit.start + shift
        pieces += [output[position:begin], text[edit.start : edit.end]]
        position = begin + len(edit.text)
        shift += len(edit.text) - (edit.end - edit.start)
    return "".join([*pieces, output[position:]])
