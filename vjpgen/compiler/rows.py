"""Which row of the source each row of a generated module comes from, or stands for."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from vjpgen.compiler.edits import Edit
from vjpgen.compiler.source import Source, split_lines


def source_rows(source: Source, output: bytes, edits: Sequence[Edit]) -> tuple[int, ...]:
    """Return the source's row for each row of the output; negative for rows that were inserted.

    Args:
        source: the source.
        output: the generated module.
        edits: everything that it changes of the source.
    """
    pending = sorted(edits, key=lambda edit: (edit.start, edit.end), reverse=True)
    rows: list[int] = []
    place = 0  # where the output's row would begin in the source, had pending edits been no edits
    for line in split_lines(output.removeprefix(source.bom).decode(source.encoding)):
        while pending and place >= pending[-1].start + len(pending[-1].text):
            edit = pending.pop()
            place += edit.end - edit.start - len(edit.text)
        is_inserted = bool(pending) and place >= pending[-1].start
        row = bisect_right(source.starts, pending[-1].start if is_inserted else place)
        rows.append(-(pending[-1].row or row) if is_inserted else row)
        place += len(line)
    return tuple(rows)
