"""Tables for a terminal."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from vjpgen.diagnostics.text import shown, width


def table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], right: Collection[str] = ()
) -> Iterator[str]:
    """Yield the lines of a table.

    Args:
        headings: those of the columns.
        rows: the cells of each row.
        right: the headings of the columns that go to the right, those of numbers.
    """
    lines = [tuple(headings), *(tuple(map(shown, row)) for row in rows)]
    widths = [max(map(width, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = []
        for heading, cell, wide in zip(headings, line, widths, strict=True):
            gap = " " * (wide - width(cell))
            cells.append(gap + cell if heading in right else cell + gap)
        yield "  ".join(cells).rstrip()
