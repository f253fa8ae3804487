"""Source text as a person sees it: lines, and the cells that a character fills on a terminal."""

from __future__ import annotations

import io
import re
import tokenize
import unicodedata

_LINE_END = re.compile(r"\r\n|\r|\n")
_TAB = 4


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


def shown(text: str) -> str:
    """Return `text` with tabs widened and with nothing in it that could steer a terminal."""
    return "".join(_shown_character(character) for character in text)


def _shown_character(character: str) -> str:
    if character == "\t":
        return " " * _TAB
    hidden = unicodedata.category(character) in ("Cc", "Cf", "Cs")
    return "\N{REPLACEMENT CHARACTER}" if hidden else character


def width(text: str) -> int:
    """Count the terminal cells that `text` fills once it went through `shown`."""
    return sum(_cells(character) for character in text)


def _cells(character: str) -> int:
    if character == "\t":
        return _TAB
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
