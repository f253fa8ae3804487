"""Source text as a person sees it: lines, and the cells that a character fills on a terminal."""

from __future__ import annotations

import io
import re
import tokenize
import unicodedata
from collections.abc import Callable

_LINE_END = re.compile(r"\r\n|\r|\n")
_TAB = 4
_MARK = "\N{REPLACEMENT CHARACTER}"
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_JOINERS = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"
_JOINED_BADLY = re.compile(f"(?<![^\\x00-\\x7f])[{_JOINERS}]|[{_JOINERS}](?![^\\x00-\\x7f])")


def decode(source: bytes) -> str:
    """Decode a source file as Python would; what cannot be decoded becomes a replacement mark."""
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(source).readline)
        return source.decode(encoding, errors="replace")
    except (SyntaxError, LookupError, ValueError):
        return source.decode("utf-8", errors="replace")


def split_lines(text: str) -> list[str]:
    """Split where Python ends a line, which a form feed does not."""
    return _LINE_END.split(text)


class Sources:
    """The lines of source files, each read once.

    Args:
        read: gives the bytes of a file by its name, or None.
    """

    def __init__(self, read: Callable[[str], bytes | None]) -> None:
        self._read = read
        self._lines: dict[str, list[str]] = {}

    def lines(self, name: str) -> list[str]:
        """Return the lines of a file; none where it cannot be read."""
        if name not in self._lines:
            data = self._read(name)
            self._lines[name] = [] if data is None else split_lines(decode(data))
        return self._lines[name]

    def line(self, name: str, row: int) -> str:
        """Return one line, counted from 1; "" where there is none."""
        lines = self.lines(name)
        return lines[row - 1] if row <= len(lines) else ""


def shown(text: str) -> str:
    """Return `text` with tabs widened and with nothing in it that could steer a terminal."""
    if text.isascii() and text.isprintable():
        return text
    return _JOINED_BADLY.sub(_MARK, "".join(map(_shown_character, text)))


def _shown_character(character: str) -> str:
    if character == "\t":
        return " " * _TAB
    hidden = unicodedata.category(character) in _HIDDEN and character not in _JOINERS
    return _MARK if hidden else character


def width(text: str) -> int:
    """Count the terminal cells that `text` fills once it went through `shown`."""
    text = shown(text)
    if text.isascii():
        return len(text)
    from wcwidth import wcswidth

    return wcswidth(text)
