"""The goals beside what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from tests.benchmarks.command_line import (
    AGAINST_CODEMOD,
    CODEMOD,
    CODEMOD_GOAL,
    FIRST_BUILD,
    comparisons,
)
from tests.benchmarks.measure import EAGER, FIRST, STEP, Report
from tests.benchmarks.results import Results, same_operations
from tests.benchmarks.variants import FLAX, GENERATED, HAND
from tests.benchmarks.workloads import EQUAL

Rows = list[list[str]]
NOT_MEASURED = "not measured"
_LAYERS = [
    (1, FIRST, HAND, 1.1),
    (24, FIRST, FLAX, 0.2),
    (96, FIRST, FLAX, 0.1),
    (1, EAGER, FLAX, 0.6),
    (24, EAGER, FLAX, 0.6),
]


def goals_table(results: Results) -> Rows:
    """One row a goal; the ratios are those of medians, measured side by side."""
    return [["figure", "goal", "measured"], *_layers(results), *_programs(results), *_rest(results)]


def _layers(results: Results) -> Iterator[list[str]]:
    reports = {each.depth: each for each in results.family(EQUAL)}
    for depth, figure, other, goal in _LAYERS:
        words = "1 layer" if depth == 1 else f"{depth} {EQUAL}"
        samples = reports[depth].samples.get(figure) if depth in reports else None
        measured = f"{samples.ratio(GENERATED, other):.2f}" if samples else NOT_MEASURED
        yield [f"{figure}, {words}, against {other}", f"<= {goal:g}", measured]


def _programs(results: Results) -> Iterator[list[str]]:
    reports = [each for each in results.reports if each.programs]
    same = [same_operations(each) for each in reports]
    equal = f"in {sum(map(bool, same))} of {len(same)} workloads"
    yield [f"optimized operations, against {HAND}", "the same", equal if same else NOT_MEASURED]
    temporary = _range([_temporary(each) for each in reports])
    yield [f"temporary bytes of the step, against {HAND}", "<= 1.00", temporary]
    steps = [each.samples[STEP].ratio(GENERATED, HAND) for each in reports]
    yield [f"time of the step, against {HAND}", "1.00", _range(steps)]


def _temporary(report: Report) -> float:
    programs = report.programs
    return programs[GENERATED].temporary_bytes / max(programs[HAND].temporary_bytes, 1)


def _range(ratios: list[float]) -> str:
    if not ratios:
        return NOT_MEASURED
    middle, low, high = statistics.median(ratios), min(ratios), max(ratios)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def _rest(results: Results) -> Iterator[list[str]]:
    imports = results.imports
    beyond = f"{1e3 * imports.beyond:.2f} ms, {imports.rules} rules" if imports else NOT_MEASURED
    yield ["import of a generated module, beyond its own imports", "<= 1 ms", beyond]
    largest = max(results.spent, key=lambda each: each.tree.files, default=None)
    for each in comparisons(largest) if largest else []:
        if each.goal is not None:
            words = f"{each.figure}, against {each.against}"
            yield [words, f"<= {each.goal:g}", f"{each.ratio:.2f}"]
    if largest and CODEMOD not in largest.seconds:
        words = f"{FIRST_BUILD} ({largest.tree.title}), against {AGAINST_CODEMOD}"
        yield [words, f"<= {CODEMOD_GOAL:g}", NOT_MEASURED]
