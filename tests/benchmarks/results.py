"""All that was measured, as a file can hold it."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from typing import Any

import flax
import jax

from tests.benchmarks.command_line import Spent, Tree, comparisons
from tests.benchmarks.imports import Imports
from tests.benchmarks.measure import Program, Report, Samples
from tests.benchmarks.variants import GENERATED, HAND


@dataclasses.dataclass(frozen=True)
class Results:
    """What one run has measured.

    Args:
        made_with: the words for machine and versions.
        variants: the variants' names in the tables' order.
        reports: of the workloads.
        imports: None where they were not measured.
        spent: what the command line took, by tree.
    """

    made_with: str
    variants: Sequence[str]
    reports: Sequence[Report]
    imports: Imports | None
    spent: Sequence[Spent]

    def family(self, family: str) -> list[Report]:
        """The workloads that are sizes of one thing, by depth."""
        found = [each for each in self.reports if each.family == family]
        return sorted(found, key=lambda each: each.depth)

    def to_json(self) -> str:
        """Write everything, with the medians and comparisons that follow from it."""
        data = dataclasses.asdict(self)
        for report, written in zip(self.reports, data["reports"], strict=True):
            written["medians"] = {
                figure: {name: samples.median(name) for name in samples.seconds}
                for figure, samples in report.samples.items()
            }
            written["same_operations"] = same_operations(report)
        data["commands"] = [
            dataclasses.asdict(each) | {"ratio": each.ratio}
            for spent in self.spent
            for each in comparisons(spent)
        ]
        return json.dumps(data, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Results:
        """Read what `to_json` wrote."""
        data = json.loads(text)
        imports = data["imports"]
        return cls(
            data["made_with"],
            data["variants"],
            [_report(each) for each in data["reports"]],
            imports and Imports(**imports),
            [_spent(each) for each in data["spent"]],
        )


def made_with() -> str:
    """Name the machine and the versions."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    device = jax.default_backend().upper()
    return f"{device}, {cores} cores, jax {jax.__version__}, flax {flax.__version__}"


def same_operations(report: Report) -> bool | None:
    """Tell whether the generated module's program has the hand-lifted one's operations."""
    programs = report.programs
    return programs[GENERATED].operations == programs[HAND].operations if programs else None


def _report(data: dict[str, Any]) -> Report:
    samples = {figure: Samples(each["seconds"]) for figure, each in data["samples"].items()}
    programs = {name: Program(**each) for name, each in data["programs"].items()}
    return Report(data["title"], data["family"], data["depth"], samples, programs, data["reasons"])


def _spent(data: dict[str, Any]) -> Spent:
    return Spent(Tree(**data["tree"]), data["size"], data["seconds"])
