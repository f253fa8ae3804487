"""Places of a generated module, turned into those of its source.

What comes from the source gets its place there. What was inserted gets the line of the annotation
that it was inserted for, so that a traceback through a rule shows that comment.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from types import CodeType
from typing import Any

Place = tuple[int | None, int | None, int | None, int | None]
_MOST_UNITS = 8
_NO_COLUMNS, _LONG, _NOWHERE = 13, 14, 15


@dataclass(frozen=True)
class Places:
    """Where each row of a generated module lies in its source.

    Args:
        rows: the source's row for each row, negative for inserted ones.
        lines: the source's lines, in UTF-8.
    """

    rows: Sequence[int]
    lines: Sequence[bytes]

    def place(self, row: int, end_row: int, column: int, end_column: int) -> tuple[int, ...]:
        """Return the same four numbers for the source."""
        start = self.row(row)
        if self._is_inserted(row):
            line = self._line(start)
            stripped = line.strip()
            indent = line.index(stripped)
            return start, start, indent, indent + len(stripped)
        while end_row > row and self._is_inserted(end_row):
            end_row -= 1
            end_column = len(self._line(self.row(end_row)))
        end = self.row(end_row)
        return start, max(start, end), column, end_column

    def row(self, row: int) -> int:
        """Return the row in the source."""
        return abs(self.rows[min(row, len(self.rows)) - 1])

    def _is_inserted(self, row: int) -> bool:
        return self.rows[min(row, len(self.rows)) - 1] < 0

    def _line(self, row: int) -> bytes:
        return self.lines[row - 1].rstrip(b"\r\n") if row <= len(self.lines) else b""


def move_tree(tree: ast.Module, places: Places) -> None:
    """Give every node its place in the source."""
    for node in ast.walk(tree):
        if (row := getattr(node, "lineno", None)) is None:
            continue
        moved: Any = node
        end_row = max(moved.end_lineno or row, row)
        placed = places.place(row, end_row, moved.col_offset, moved.end_col_offset)
        moved.lineno, moved.end_lineno, moved.col_offset, moved.end_col_offset = placed


def move_code(code: CodeType, places: Places) -> CodeType:
    """Return the code, that of inner functions too, with its instructions placed in the source."""
    first = places.row(code.co_firstlineno)
    constants = (
        move_code(each, places) if isinstance(each, CodeType) else each for each in code.co_consts
    )
    return code.replace(
        co_firstlineno=first,
        co_consts=tuple(constants),
        co_linetable=b"".join(_entries(code, first, places)),
    )


def _entries(code: CodeType, first: int, places: Places) -> Iterator[bytes]:
    """Yield the entries of a table of locations, as CPython's `Objects/locations.md` has them."""
    at = first
    for position, units in groupby(code.co_positions()):
        row, end_row, column, end_column = _moved(position, places)
        if row is None:
            kind, delta, rest = _NOWHERE, b"", b""
        elif end_row is None or column is None or end_column is None:
            kind, delta, rest = _NO_COLUMNS, _signed(row - at), b""
        else:
            kind, delta = _LONG, _signed(row - at)
            rest = _number(end_row - row) + _number(column + 1) + _number(end_column + 1)
        again = delta if row is None else _signed(0)
        at = at if row is None else row
        count = sum(1 for _ in units)
        while count > 0:
            length = min(count, _MOST_UNITS)
            yield bytes([0x80 | kind << 3 | length - 1]) + delta + rest
            count, delta = count - length, again


def _moved(position: Place, places: Places) -> Place:
    row, end_row, column, end_column = position
    if row is None or row < 1:  # the start of a module is in row 0
        return position
    if end_row is None or column is None or end_column is None:
        return places.row(row), None, None, None
    start, end, column, end_column = places.place(row, end_row, column, end_column)
    return start, end, column, end_column


def _number(value: int) -> bytes:
    """Six bits a byte, the lowest first; the seventh says that more follow."""
    data = bytearray()
    while value > 0x3F:
        data.append(0x40 | value & 0x3F)
        value >>= 6
    return bytes([*data, value])


def _signed(value: int) -> bytes:
    return _number(-value << 1 | 1 if value < 0 else value << 1)
