"""The README's tables of measurements."""

from __future__ import annotations

from tests.benchmarks.goals import goals_table
from tests.benchmarks.measure import FIRST
from tests.benchmarks.results import Results
from tests.benchmarks.table import (
    as_markdown,
    command_table,
    device_table,
    figure_table,
    footnotes,
    growth_table,
    import_table,
)
from tests.parts import replaced


def written(text: str, results: Results) -> str:
    """Return the README with other tables in their place."""
    return replaced(text, "benchmarks", tables(results))


def tables(results: Results) -> str:
    """Everything that was measured, as the README shows it."""
    parts = [f"Made by `python -m tests.benchmarks`: {results.made_with}."]
    parts.append(as_markdown(goals_table(results)))
    if results.reports:
        parts += ["The first trace of the gradient:", as_markdown(figure_table(results, FIRST))]
        parts += footnotes(results)
        parts += ["<details><summary>All figures of the workloads</summary>"]
        parts += [as_markdown(device_table(results)), "</details>"]
    if results.imports:
        parts.append(as_markdown(import_table(results.imports)))
    if results.spent:
        parts += [as_markdown(command_table(results.spent))]
        parts += [as_markdown(growth_table(results.spent))]
    return "\n\n".join(parts)
