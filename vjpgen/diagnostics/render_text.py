"""Findings for a person at a terminal: the excerpt, the span underlined, and what to write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from vjpgen.diagnostics import WHOLE_FILE, Diagnostic, Severity
from vjpgen.diagnostics.colors import paint
from vjpgen.diagnostics.text import Sources, shown, width

ReadSource = Callable[[str], bytes | None]

_HUES = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.NOTE: "cyan"}
_MOST_ROWS = 4
_MOST_CHARACTERS = 160
_CUT = "..."


def render(diagnostics: Iterable[Diagnostic], read: ReadSource, *, color: bool = False) -> str:
    """Return every finding with its excerpt, and one line that counts them.

    Args:
        diagnostics: the findings, in the order to show them.
        read: gives the bytes of a file by the name that the findings use, or None.
        color: whether to use terminal colours.
    """
    found = tuple(diagnostics)
    if not found:
        return ""
    sources = Sources(read)
    blocks = [_block(item, sources.lines(item.filename), color) for item in found]
    return "\n".join([*blocks, count(found), ""])


def count(diagnostics: Iterable[Diagnostic]) -> str:
    """Say how many errors, warnings and notes there are."""
    tally = Counter(item.severity for item in diagnostics)
    parts = [f"{n} {kind.value}{'s' * (n != 1)}" for kind in Severity if (n := tally[kind])]
    return f"Found {', '.join(parts)}."


def _block(item: Diagnostic, lines: list[str], color: bool) -> str:
    return "".join(f"{line}\n" for line in _lines(item, lines, color))


def _lines(item: Diagnostic, lines: list[str], color: bool) -> Iterator[str]:
    hue = _HUES[item.severity]
    span = item.span
    head = paint(f"{item.severity.value}[{item.code}]", hue, color)
    yield f"{head}{paint(f': {shown(item.message)}', 'bold', color)}"
    end = min(span.end_row, len(lines))
    last = min(end, span.row + _MOST_ROWS - 1)
    margin = " " * len(str(max(last, span.row)))
    place = f"{shown(item.filename)}:{span.row}:{span.column}"
    yield f"{margin}{paint('-->', 'blue', color)} {place}"
    if span != WHOLE_FILE and span.row <= len(lines):
        yield f"{margin} {paint('|', 'blue', color)}"
        for row in range(span.row, last + 1):
            yield from _excerpt(item, row, lines[row - 1], margin, color)
        if last < end:
            yield paint(f"{margin}{_CUT}", "blue", color)
    if item.help is not None:
        yield f"{margin} = {paint('help', 'cyan', color)}: {shown(item.help)}"


def _excerpt(item: Diagnostic, row: int, line: str, margin: str, color: bool) -> Iterator[str]:
    window = _window(line, *_columns(item, row, line))
    number = paint(str(row).rjust(len(margin)), "blue", color)
    bar = paint("|", "blue", color)
    yield f"{number} {bar} {window.before}{shown(window.text)}{window.after}".rstrip()
    if row != item.span.row and not line.strip():
        return
    left = width(window.text[: window.start])
    marks = "^" * max(1, width(window.text[: window.stop]) - left)
    indent = " " * (len(window.before) + left)
    yield f"{margin} {bar} {indent}{paint(marks, _HUES[item.severity], color)}"


def _columns(item: Diagnostic, row: int, line: str) -> tuple[int, int]:
    """Return the part of this row that the span covers, counted from 0, the end exclusive."""
    span = item.span
    blank = len(line) - len(line.lstrip())
    start = span.column - 1 if row == span.row else blank
    stop = span.end_column - 1 if row == span.end_row else len(line.rstrip())
    return min(start, len(line)), max(start, min(stop, len(line)))


@dataclass(frozen=True)
class _Window:
    """The part of a line that is shown, the marks of what is left out, and the span in it."""

    text: str
    start: int
    stop: int
    before: str = ""
    after: str = ""


def _window(line: str, start: int, stop: int) -> _Window:
    """Cut a very long line to a stretch around the span."""
    if len(line) <= _MOST_CHARACTERS:
        return _Window(line, start, stop)
    left = max(0, min(start - _MOST_CHARACTERS // 4, len(line) - _MOST_CHARACTERS))
    right = left + _MOST_CHARACTERS
    before, after = _CUT if left else "", _CUT if right < len(line) else ""
    return _Window(line[left:right], start - left, min(stop, right) - left, before, after)
