"""A source file as text, with every way of saying where something stands in it.

Positions are (row, column): rows from 1, columns from 0 and counted in characters. `ast` counts
columns in bytes of UTF-8; `Source.start` and `Source.end` translate.
"""

from __future__ import annotations

import ast
import codecs
import io
import re
import tokenize
from dataclasses import dataclass

from vjpgen.diagnostics import Span

Position = tuple[int, int]

_LINES = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")


@dataclass(frozen=True)
class Source:
    """The decoded text of one file.

    Args:
        data: the file's bytes.
        filename: the file as the user named it.
        encoding: the codec that its coding line or BOM names.
        text: the decoded text, without a BOM.
        lines: its lines as Python splits them, each with its end.
        starts: the offset of each line in the text, and the text's length.
    """

    data: bytes
    filename: str
    encoding: str
    text: str
    lines: tuple[str, ...]
    starts: tuple[int, ...]

    @property
    def bom(self) -> bytes:
        """The byte order mark that the file begins with, or nothing."""
        return codecs.BOM_UTF8 if self.data.startswith(codecs.BOM_UTF8) else b""

    @property
    def newline(self) -> str:
        """The end of the first line, which inserted text follows."""
        return "\r\n" if self.lines and self.lines[0].endswith("\r\n") else "\n"

    def encode(self, text: str) -> bytes:
        """Text in the file's own encoding, its BOM in front."""
        return self.bom + text.encode(self.encoding)

    def encodable(self, text: str) -> str:
        """Text as the file's encoding can hold it; a string literal still means the same."""
        if text.isascii():
            return text
        return text.encode(self.encoding, errors="backslashreplace").decode(self.encoding)

    def offset(self, position: Position) -> int:
        """Where a position lies in the text."""
        row, column = position
        return self.starts[row - 1] + column

    def start(self, node: ast.expr | ast.stmt | ast.alias) -> Position:
        """Where an `ast` node of this file begins."""
        return node.lineno, self._characters(node.lineno, node.col_offset)

    def end(self, node: ast.expr | ast.stmt | ast.alias) -> Position:
        """Where an `ast` node of this file ends, exclusive."""
        row, column = node.end_lineno, node.end_col_offset
        assert row is not None
        assert column is not None
        return row, self._characters(row, column)

    def span(self, node: ast.expr | ast.stmt | ast.alias) -> Span:
        """The stretch of an `ast` node of this file."""
        return span_between(self.start(node), self.end(node))

    def line(self, row: int) -> str:
        """A line without its end; empty past the last one."""
        return self.lines[row - 1].rstrip("\r\n") if row <= len(self.lines) else ""

    def _characters(self, row: int, column: int) -> int:
        line = self.lines[row - 1] if row <= len(self.lines) else ""
        return column if line.isascii() else len(line.encode()[:column].decode(errors="ignore"))


def span_between(start: Position, end: Position) -> Span:
    """A diagnostic's span, whose columns count from 1."""
    return Span(start[0], start[1] + 1, end[0], end[1] + 1)


def decode(data: bytes, filename: str) -> Source:
    """Decode a file as Python would; `SyntaxError` or `UnicodeDecodeError` where it cannot be."""
    encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    encoding = "utf-8" if encoding == "utf-8-sig" else encoding
    text = data.removeprefix(codecs.BOM_UTF8).decode(encoding)
    lines = split_lines(text)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    return Source(data, filename, encoding, text, lines, tuple(starts))


def split_lines(text: str) -> tuple[str, ...]:
    """The lines of a text as Python splits them, each with its end."""
    return tuple(_LINES.findall(text))
