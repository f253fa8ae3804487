"""The benchmark runs, and the programs that it compiles cost nothing. No time is asserted."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest

from tests.benchmarks import plot, readme, trial, variants
from tests.benchmarks.command_line import Spent, Tree
from tests.benchmarks.goals import goals_table
from tests.benchmarks.imports import Imports
from tests.benchmarks.measure import AGAIN, FIRST, STEP, Program, Report, Samples
from tests.benchmarks.results import Results
from tests.benchmarks.table import as_markdown, as_text, device_table, figure_table, footnotes
from tests.benchmarks.trial import tried
from tests.benchmarks.variants import (
    DROP_IN,
    FLAX,
    GENERATED,
    HAND,
    JITTED,
    NNX,
    PLAIN,
    UNSHARED,
    Candidate,
    candidate,
)
from tests.benchmarks.workloads import DIFFERING, EQUAL, equal
from tests.parts import README

ROOT = Path(__file__).parents[2]
NAMES = [PLAIN, FLAX, HAND, GENERATED]


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Results:
    """The figures of a smoke run of some workloads."""
    folder = tmp_path_factory.mktemp("benchmarks")
    figures, drawn = folder / "figures.json", folder / "plot.svg"
    command = [sys.executable, "-m", "tests.benchmarks", "--quick", "--differing", ""]
    command += ["--transformer", "", "--rnn", "", "--json", str(figures), "--plot", str(drawn)]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    assert "trace, first" in process.stdout
    assert "first time, a file" in process.stdout
    ElementTree.parse(drawn)
    return Results.from_json(figures.read_text())


@pytest.mark.parametrize("variant", [GENERATED, UNSHARED, DROP_IN])
def test_compiled_programs_are_those_of_rules_lifted_by_hand(results, variant):
    assert [report.family for report in results.reports] == [EQUAL, "ResNet with BatchNorm"]
    for report in results.reports:
        hand = report.programs[HAND]
        found = report.programs[variant if variant in results.variants else GENERATED]
        assert sum(hand.operations.values()) > 30
        assert found.operations == hand.operations
        assert found.temporary_bytes <= hand.temporary_bytes


def test_every_variant_has_figures_or_a_reason(results):
    for report in results.reports:
        measured = set(report.samples[FIRST].seconds)
        assert measured | set(report.reasons) == set(results.variants)
        assert not measured & set(report.reasons)
        assert measured >= {PLAIN, FLAX, HAND, GENERATED, DROP_IN}


def test_every_command_is_compared(results):
    (spent,) = results.spent
    goals = [row[1] for row in goals_table(results)]
    assert goals[-5:] == ["<= 1 ms", "<= 4", "<= 1", "<= 1.5", "<= 0.1"]
    assert all(seconds > 0 for seconds in spent.seconds.values())
    assert results.imports is not None
    assert results.imports.rules == 6
    assert results.imports.generated > 0


def report(family: str, depth: int, cannot: dict[str, str] | None = None) -> Report:
    """Made-up figures: each variant takes its place in the order, times the depth, in ms."""
    reasons = cannot or {}
    able = [name for name in NAMES if name not in reasons]
    seconds = Samples({name: [1e-3 * depth * (NAMES.index(name) + 1)] for name in able})
    programs = {name: Program(1000, {"dot": depth}) for name in able} if depth < 90 else {}
    figures = [FIRST, AGAIN, STEP] if programs else [FIRST, AGAIN]
    samples = dict.fromkeys(figures, seconds)
    title = "1 layer" if depth == 1 else f"{depth} {family}"
    return Report(title, family, depth, samples, programs, reasons)


def made_up() -> Results:
    """Results of every kind, with a variant that cannot do one of the workloads."""
    reports = [report(EQUAL, 1), report(EQUAL, 24), report(EQUAL, 96)]
    reports.append(report(DIFFERING, 24, {FLAX: "ValueError: no"}))
    names = ("pass", "walk", "version", "again", "one", "import", "first", "libcst")
    spent = Spent(Tree(10, 1), 1000, dict.fromkeys(names, 0.1))
    return Results("here", NAMES, reports, Imports(6, 0.004, 0.0045, 0.01), [spent])


def test_the_table_has_every_figure_and_footnotes():
    header, *rows = device_table(made_up())
    assert header[2:6] == NAMES
    assert rows[6][:5] == ["24 equal layers", FIRST, "24.0 ms", "48.0 ms", "72.0 ms"]
    assert rows[6][6:] == ["2.00", "1.33", "1"]
    left_out = next(row for row in rows if row[0] == "96 equal layers" and "step" in row[1])
    assert left_out[2:6] == ["not measured"] * 4
    cannot = [row[3] for row in rows if row[0] == "24 differing layers"]
    assert cannot[:3] == ["- [1]"] * 3
    assert footnotes(made_up()) == [f"[1] {FLAX}, 24 differing layers: `ValueError: no`"]
    assert len({len(row) for row in [header, *rows]}) == 1
    assert len(figure_table(made_up(), FIRST)) == 5


def test_goals_stand_beside_what_was_measured():
    rows = {row[0]: row[1:] for row in goals_table(made_up())}
    assert rows[f"trace, first, 24 equal layers, against {FLAX}"] == ["<= 0.2", "2.00"]
    assert rows[f"eager gradient, 1 layer, against {FLAX}"] == ["<= 0.6", "not measured"]
    assert rows[f"optimized operations, against {HAND}"] == ["the same", "in 3 of 3 workloads"]
    beyond = rows["import of a generated module, beyond its own imports"]
    assert beyond == ["<= 1 ms", "0.50 ms, 6 rules"]


def test_tables_are_text_and_markdown():
    rows = [["a", "bc"], ["def", "g"]]
    assert as_text(rows) == "a    bc\ndef  g"
    assert as_markdown(rows) == "| a | bc |\n|---|---|\n| def | g |"


def test_results_are_what_their_file_holds():
    assert Results.from_json(made_up().to_json()) == made_up()


def test_the_plot_is_the_same_bytes_for_the_same_figures(tmp_path):
    files = [tmp_path / "one.svg", tmp_path / "two.svg"]
    for file in files:
        plot.write(made_up(), file)
    assert files[0].read_bytes() == files[1].read_bytes()
    assert ElementTree.parse(files[0]).getroot().tag.endswith("svg")
    for text in ("depth, layers", "first trace of the gradient, seconds", *NAMES):
        assert f"<!-- {text} -->" in files[0].read_text()


def test_the_readme_holds_the_tables_between_its_marks():
    text = README.read_text()
    assert "tests/benchmarks/trace_time.svg" in text
    ElementTree.parse(ROOT / "tests/benchmarks/trace_time.svg")
    once = readme.written(text, made_up())
    assert as_markdown(goals_table(made_up())) in once
    assert readme.written(once, made_up()) == once
    assert once != text


def test_variants_that_fail_or_differ_are_left_out_with_what_they_said(monkeypatch):
    def broken(variant, workload):
        if variant == FLAX:
            raise ValueError("the first line\nthe second")
        found = candidate(PLAIN, workload)
        if variant == NNX:
            double = lambda *arguments: (2 * found.loss(*arguments)[0], {})  # noqa: E731
            return Candidate(double, *found.arguments)
        return found

    monkeypatch.setattr(trial, "candidate", broken)
    monkeypatch.setattr(trial, "clear_caches", lambda: None)
    monkeypatch.setattr(trial, "variants", lambda: [PLAIN, FLAX, NNX, JITTED])
    found = tried(equal(1, width=4), None, eager=True)
    assert list(found.candidates) == [PLAIN, JITTED]
    assert found.reasons[FLAX] == "ValueError: the first line"
    assert found.reasons[NNX].startswith("AssertionError: another gradient than plain autodiff's")
    programs = tried(equal(1, width=4), lambda _, traced: traced.lower().compile(), eager=False)
    assert list(programs.compiled) == [PLAIN, JITTED]
    assert jax.tree.leaves(programs.reasons) == jax.tree.leaves(found.reasons)


def test_a_variant_of_ours_that_fails_is_an_error(monkeypatch):
    def broken(variant, workload):
        if variant == GENERATED:
            raise ValueError("a bug")
        return candidate(PLAIN, workload)

    monkeypatch.setattr(trial, "candidate", broken)
    monkeypatch.setattr(trial, "variants", lambda: [PLAIN, GENERATED])
    with pytest.raises(ValueError, match="a bug"):
        tried(equal(1, width=4), None, eager=True)


def test_the_variant_without_sharing_is_there_where_the_runtime_shares(monkeypatch):
    calls = []
    sharing = SimpleNamespace(
        clear=lambda: calls.append("clear"),
        disabled=lambda: contextlib.nullcontext(calls.append("disabled")),
    )
    monkeypatch.setattr(variants, "_sharing", lambda: sharing)
    monkeypatch.setattr(jax, "clear_caches", lambda: calls.append("jax"))
    assert UNSHARED in variants.variants()
    for name in (GENERATED, UNSHARED):
        with variants.around(name):
            calls.append(name)
    variants.clear_caches()
    assert calls == [GENERATED, "disabled", UNSHARED, "jax", "clear"]
    monkeypatch.setattr(variants, "_sharing", lambda: None)
    assert UNSHARED not in variants.variants()
