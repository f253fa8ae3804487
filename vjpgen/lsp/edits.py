"""Changes of a buffer, in its own positions."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vjpgen.compiler import edits as compiler_edits
from vjpgen.compiler.source import Position, Source
from vjpgen.lsp.document import Document


@dataclass(frozen=True)
class TextEdit:
    """Put `text` in place of what stands from `start` to `end`, which are equal to insert."""

    start: Position
    end: Position
    text: str


def of_compiler(source: Source, edit: compiler_edits.Edit) -> TextEdit:
    """An edit of the compiler's, whose places are offsets."""
    return TextEdit(_place(source, edit.start), _place(source, edit.end), edit.text)


def applied(document: Document, edits: Sequence[TextEdit]) -> str:
    """The text of a buffer after edits that do not overlap."""
    text = document.text
    for edit in reversed(in_order(edits)):
        start, end = document.offset(edit.start), document.offset(edit.end)
        text = text[:start] + edit.text + text[end:]
    return text


def in_order(edits: Iterable[TextEdit]) -> list[TextEdit]:
    """Edits in the order of the text; insertions at one place in the order given."""
    return sorted(edits, key=lambda edit: (edit.start, edit.end))


def _place(source: Source, offset: int) -> Position:
    row = max(bisect.bisect_right(source.starts, offset) - 1, 0)
    return row + 1, offset - source.starts[row]
