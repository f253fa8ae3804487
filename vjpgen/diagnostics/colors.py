"""Colours on a terminal."""

from __future__ import annotations

_CODES = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "cyan": "36",
}


def paint(text: str, style: str, color: bool) -> str:
    """Return text in a style, if colours are wanted."""
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if color else text
