"""The benchmark runs, and the programs that it compiles cost nothing. No time is asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def figures(tmp_path_factory) -> Any:
    """The figures of a smoke run."""
    file = tmp_path_factory.mktemp("benchmarks") / "figures.json"
    command = [sys.executable, "-m", "tests.benchmarks", "--quick", "--json", str(file)]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    assert "trace, first" in process.stdout
    assert "first time, a file" in process.stdout
    return json.loads(file.read_text())


@pytest.mark.parametrize("variant", ["generated", "vjpgen.custom_vjp"])
def test_compiled_programs_are_those_of_rules_lifted_by_hand(figures, variant):
    for workload in figures["workloads"]:
        found, hand = workload["programs"][variant], workload["programs"]["hand-lifted"]
        assert hand["operations"]["dot"] > 0
        assert found["operations"] == hand["operations"]
        assert found["temporary_bytes"] <= hand["temporary_bytes"]


def test_every_command_is_compared(figures):
    assert [command["goal"] for command in figures["commands"]] == [4.0, 1.0, None, 1.5]
    assert all(command["ratio"] > 0 for command in figures["commands"])
