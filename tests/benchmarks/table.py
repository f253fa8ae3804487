"""The measurements as tables, and as plain data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tests.benchmarks.command_line import Comparison, Spent, comparisons
from tests.benchmarks.measure import EAGER, FIRST, STEP, Program, Report
from tests.benchmarks.variants import FLAX, GENERATED, HAND, VARIANTS, Workload

Rows = list[list[str]]
_HEADER = ["workload", "figure", *VARIANTS, f"generated / {FLAX}", f"generated / {HAND}", "goal"]
_COMMANDS = ["command", "time", "against", "its time", "ratio", "goal"]
_GROWTH = [
    "tree",
    "sources",
    "nothing to do",
    "one file changed",
    "first time",
    "read all, libcst parse and print",
    "nothing to do, a file",
    "first time, a file",
]


def device_table(reports: Mapping[Workload, Report]) -> Rows:
    """One row a workload and figure: milliseconds, bytes, numbers of operations."""
    rows = [_HEADER]
    for workload, report in reports.items():
        for figure, samples in report.samples.items():
            values = [f"{1e3 * samples.median(name):.2f} ms" for name in VARIANTS]
            ratios = [f"{samples.ratio(GENERATED, other):.2f}" for other in (FLAX, HAND)]
            rows.append([workload.title, figure, *values, *ratios, _goal(workload, figure)])
        rows += [[workload.title, *row] for row in _program_rows(report.programs)]
    return rows


def command_table(spent: Sequence[Spent]) -> Rows:
    """One row a command and tree; what does not depend on the tree, once."""
    found = {each.figure + each.against: each for tree in spent for each in comparisons(tree)}
    return [_COMMANDS, *(_command_row(each) for each in found.values())]


def _command_row(each: Comparison) -> list[str]:
    goal = "" if each.goal is None else f"<= {each.goal:g}"
    times = [f"{each.seconds:.3f} s", each.against, f"{each.baseline:.3f} s"]
    return [each.figure, *times, f"{each.ratio:.2f}", goal]


def growth_table(spent: Sequence[Spent]) -> Rows:
    """One row a tree: what each build takes as the tree grows, and what it takes for a file."""
    rows = [_GROWTH]
    for each in sorted(spent, key=lambda each: each.tree.files):
        files = each.tree.files
        times = [each.seconds[name] for name in ("again", "one", "first", "libcst")]
        per_file = [f"{1e6 * each.seconds[name] / files:.0f} us" for name in ("again", "first")]
        size = f"{each.size / 1e6:.1f} MB"
        rows.append([each.tree.title, size, *(f"{time:.3f} s" for time in times), *per_file])
    return rows


def same_operations(programs: Mapping[str, Program]) -> bool:
    """Tell whether the generated module's program has the hand-lifted one's operations."""
    return programs[GENERATED].operations == programs[HAND].operations


def as_data(reports: Mapping[Workload, Report], spent: Sequence[Spent]) -> Any:
    """All that was measured, for a JSON file."""
    return {
        "workloads": [
            {
                "title": workload.title,
                "seconds": {
                    figure: {name: samples.median(name) for name in VARIANTS}
                    for figure, samples in report.samples.items()
                },
                "programs": {
                    name: dataclasses.asdict(program) for name, program in report.programs.items()
                },
                "same_operations": same_operations(report.programs),
            }
            for workload, report in reports.items()
        ],
        "commands": [
            dataclasses.asdict(each) | {"ratio": each.ratio}
            for tree in spent
            for each in comparisons(tree)
        ],
        "trees": [dataclasses.asdict(each) for each in spent],
    }


def as_text(rows: Rows) -> str:
    """Columns of equal width, for a terminal."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def as_markdown(rows: Rows) -> str:
    """A markdown table."""
    header, *body = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([header, f"|{'---|' * len(rows[0])}", *body])


def _program_rows(programs: Mapping[str, Program]) -> Rows:
    sizes = [programs[name].temporary_bytes for name in VARIANTS]
    counts = [sum(programs[name].operations.values()) for name in VARIANTS]
    verdict = "the same" if same_operations(programs) else "not the same"

    def row(figure: str, values: list[int], goal: str) -> list[str]:
        by_name = dict(zip(VARIANTS, values, strict=True))
        ratios = [f"{by_name[GENERATED] / max(by_name[other], 1):.2f}" for other in (FLAX, HAND)]
        return [figure, *(f"{value:,}" for value in values), *ratios, goal]

    return [
        row("temporary bytes", sizes, f"<= 1.00 of {HAND}"),
        row("optimized operations", counts, f"those of {HAND}: {verdict}"),
    ]


def _goal(workload: Workload, figure: str) -> str:
    """The goal that a figure has, in words; "" where it has none."""
    if figure == FIRST and workload.kind == "Layer" and workload.depth in (24, 96):
        return f"<= {0.2 if workload.depth == 24 else 0.1} of {FLAX}"
    if figure == FIRST and workload.depth == 1:
        return f"<= 1.1 of {HAND}"
    return {STEP: f"1.00 of {HAND}", EAGER: f"<= 0.6 of {FLAX}"}.get(figure, "")
