"""The text of a buffer, and its positions as the client counts them.

Within vjpgen a position is (row, column): rows from 1, columns from 0 and counted in characters.
Clients count lines from 0 and columns in units of UTF-16, or of what was agreed upon.
"""

from __future__ import annotations

import codecs
import io
import tokenize
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from vjpgen.compiler.source import Position, split_lines

_BOM = "\ufeff"


@dataclass(frozen=True)
class Units:
    """How a client counts columns.

    Args:
        name: the encoding's name in the protocol.
        of: how many units a character has.
    """

    name: str
    of: Callable[[str], int]


def _utf16(character: str) -> int:
    return 2 if character > "\uffff" else 1


def _utf8(character: str) -> int:
    return 3 if "\ud800" <= character <= "\udfff" else len(character.encode())


UNITS = {
    units.name: units
    for units in (Units("utf-16", _utf16), Units("utf-8", _utf8), Units("utf-32", lambda _: 1))
}


@dataclass(frozen=True)
class Document:
    """A buffer at one moment.

    Args:
        uri: its name in the protocol.
        path: the absolute path of its file, or where it would be.
        text: its text.
        version: the client's number of this state of the text.
    """

    uri: str
    path: str
    text: str
    version: int | None = None

    @cached_property
    def lines(self) -> tuple[str, ...]:
        """Its lines as Python and the protocol split them, each with its end."""
        return split_lines(self.text.removeprefix(_BOM))

    @cached_property
    def data(self) -> bytes:
        """The bytes that the compiler reads: in the encoding that the text itself names."""
        text = self.text.removeprefix(_BOM)
        data = text.encode("utf-8", "replace")
        try:
            encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
            if codecs.lookup(encoding).name not in ("utf-8", "utf-8-sig"):
                return text.encode(encoding, "replace")  # one mark a character: columns stay
        except (SyntaxError, LookupError, ValueError):
            return data  # the compiler says what is wrong with it
        return data

    @property
    def newline(self) -> str:
        """The end of the first line, which inserted text follows."""
        return "\r\n" if self.lines and self.lines[0].endswith("\r\n") else "\n"

    def line(self, row: int) -> str:
        """A line without its end; empty where there is none."""
        return self.lines[row - 1].rstrip("\r\n") if 0 < row <= len(self.lines) else ""

    @property
    def end(self) -> Position:
        """The place after the last character."""
        if self.lines and self.lines[-1][-1] not in "\r\n":
            return len(self.lines), len(self.lines[-1])
        return len(self.lines) + 1, 0

    def to_client(self, position: Position, units: Units) -> tuple[int, int]:
        """A place as the client counts, both numbers from 0."""
        row, column = position
        line = self.line(row)[:column]
        return row - 1, self._bom(row, units) + sum(map(units.of, line))

    def from_client(self, line: int, character: int, units: Units) -> Position:
        """The place that a client means; past the end of a line it is the line's end."""
        row = line + 1
        if row > len(self.lines):
            return self.end
        left = character - self._bom(row, units)
        text = self.line(row)
        for column, each in enumerate(text):
            if left <= 0:
                return row, column
            left -= units.of(each)
        return row, len(text)

    def offset(self, position: Position) -> int:
        """Where a place lies in the text."""
        row, column = position
        bom = len(self.text) - len(self.text.removeprefix(_BOM))
        return bom + sum(map(len, self.lines[: row - 1])) + column

    def changed(self, start: Position, end: Position, text: str) -> str:
        """The text with a stretch of it replaced."""
        return self.text[: self.offset(start)] + text + self.text[self.offset(end) :]

    def _bom(self, row: int, units: Units) -> int:
        return units.of(_BOM) if row == 1 and self.text.startswith(_BOM) else 0
