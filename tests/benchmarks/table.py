"""The measurements as tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.benchmarks.command_line import Comparison, Spent, comparisons
from tests.benchmarks.goals import NOT_MEASURED, Rows
from tests.benchmarks.imports import Imports
from tests.benchmarks.measure import Report
from tests.benchmarks.results import Results
from tests.benchmarks.variants import FLAX, GENERATED, HAND

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


def device_table(results: Results) -> Rows:
    """One row a workload and figure: times, bytes, numbers of operations."""
    ratios = [f"{GENERATED} / {other}" for other in (FLAX, HAND)]
    rows = [["workload", "figure", *results.variants, *ratios, "rounds"]]
    for report in results.reports:
        rows += _report_rows(results, report)
    return rows


def figure_table(results: Results, figure: str) -> Rows:
    """The rows of one figure, one a workload."""
    header, *rows = device_table(results)
    return [[row[0], *row[2:-1]] for row in [header, *(each for each in rows if each[1] == figure)]]


def footnotes(results: Results) -> list[str]:
    """Why variants have no figures: what each said when it was tried."""
    return [
        f"[{number}] {variant}, {', '.join(titles)}: `{reason}`"
        for number, ((variant, reason), titles) in enumerate(_reasons(results).items(), 1)
    ]


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


def import_table(imports: Imports) -> Rows:
    """What imports take, each in a process of its own."""
    return [
        ["import, in a fresh process", "time"],
        [f"a source with {imports.rules} rules, after all that it imports", _time(imports.source)],
        ["the module generated from it, likewise", _time(imports.generated)],
        ["vjpgen's runtime, after jax and flax", _time(imports.runtime)],
    ]


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


def _report_rows(results: Results, report: Report) -> Rows:
    def row(
        figure: str, of: Callable[[str], float], words: Callable[[float], str], rounds: str
    ) -> list[str]:
        values = {name: of(name) for name in results.variants if name not in report.reasons}
        cells = [
            words(values[name]) if name in values else _missing(results, report, name)
            for name in results.variants
        ]
        ratios = [
            f"{values[GENERATED] / max(values[other], 1e-12):.2f}" if other in values else "-"
            for other in (FLAX, HAND)
        ]
        return [report.title, figure, *cells, *ratios, rounds]

    rows = [
        row(figure, samples.median, _time, str(len(samples.seconds[GENERATED])))
        for figure, samples in report.samples.items()
    ]
    if report.programs:
        sizes = {name: each.temporary_bytes for name, each in report.programs.items()}
        counts = {name: sum(each.operations.values()) for name, each in report.programs.items()}
        rows.append(row("temporary bytes", sizes.__getitem__, "{:,}".format, ""))
        rows.append(row("optimized operations", counts.__getitem__, "{:,}".format, ""))
    if report.left_out:
        empty = [NOT_MEASURED] * len(results.variants)
        rows.append([report.title, ", ".join(report.left_out), *empty, "", "", ""])
    return rows


def _missing(results: Results, report: Report, variant: str) -> str:
    number = list(_reasons(results)).index((variant, report.reasons[variant])) + 1
    return f"- [{number}]"


def _reasons(results: Results) -> dict[tuple[str, str], list[str]]:
    """The titles of the workloads that a variant cannot do, by the variant and the reason."""
    found: dict[tuple[str, str], list[str]] = {}
    for report in results.reports:
        for variant, reason in report.reasons.items():
            found.setdefault((variant, reason), []).append(report.title)
    return found


def _time(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{1e3 * seconds:.{0 if seconds >= 0.1 else 1 if seconds >= 0.01 else 2}f} ms"
