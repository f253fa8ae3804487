"""Every wrong rule of the suite is caught, and no right one fails."""

from __future__ import annotations

import pytest

from tests.parts import README, body
from tests.power.__main__ import PART
from tests.power.right import RIGHT
from tests.power.table import kinds
from tests.power.tools import caught, compiled_quickly, reported, verdict
from tests.power.wrong import WRONG
from vjpgen.testing import verifying

# What the first four checks find.
FIRST = {"primal", "forward", "structure", "gradient", "claim"}


@pytest.fixture(scope="module", autouse=True)
def quickly():
    with compiled_quickly():
        yield


@pytest.mark.filterwarnings("ignore")  # rules that are wrong may warn
@pytest.mark.parametrize("name", WRONG)
def test_wrong_rule_is_caught(name, monkeypatch):
    case = WRONG[name]
    if FIRST.issuperset(case.finds):  # what comes after can only find more
        monkeypatch.setattr(verifying, "_CHECKS", verifying._CHECKS[:4])
    report = reported(case)
    assert not report.ok
    assert {finding.check for finding in report.errors} & set(case.finds), report


# One of three right rules of each kind: all of them, with as many seeds as one likes, are run by
# `python -m tests.power --seeds 20`.
@pytest.mark.filterwarnings("ignore::vjpgen.DroppedTangentWarning")
@pytest.mark.parametrize("name", [name for names in kinds(RIGHT).values() for name in names[::3]])
def test_right_rule_passes(name):
    report = reported(RIGHT[name])
    assert report.ok, report


@pytest.mark.parametrize(
    "name", ["softplus_off_the_direction", "dense_off_the_direction", "tanh_traced"]
)
def test_what_others_let_pass(name):
    """The suite holds rules that `check_vjp` cannot tell from right ones."""
    assert verdict("check_vjp", WRONG[name], double=True).says == "passes"


@pytest.mark.parametrize("tool", ["check_vjp", "check_grads", "differences"])
def test_others_are_given_a_fair_chance(tool):
    assert caught(tool, WRONG["dense_twice"], double=True)
    assert verdict(tool, RIGHT["dense_float32"], double=True).says == "passes"


def test_suites_are_large_enough():
    assert len(WRONG) >= 48
    assert len({case.about.partition(":")[0] for case in WRONG.values()}) >= 16
    assert len(RIGHT) >= 48


def test_table_has_a_line_for_each_kind():
    """And in check_rule's column everything caught, nothing failed."""
    lines = body(README.read_text(), PART).splitlines()
    rows = [tuple(line.strip("| ").split(" | ")[:3]) for line in lines if line.startswith("| ")]
    wrong = [(kind, str(len(names)), str(len(names))) for kind, names in kinds(WRONG).items()]
    right = [(kind, str(len(names)), "0") for kind, names in kinds(RIGHT).items()]
    total = [("**all**", f"{len(WRONG)}", f"{len(WRONG)}"), ("**all**", f"{len(RIGHT)}", "0")]
    shown = [row for row in rows if row[1].isdigit()]
    assert shown == [*wrong, total[0], *right, total[1]], "run: python -m tests.power --write"
