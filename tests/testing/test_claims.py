"""Which claim counts for which leaf."""

from __future__ import annotations

import pytest

from vjpgen.testing.claims import Named, resolve

LEAVES = [
    Named("self", "params.Dense_0.kernel", True),
    Named("self", "params.Dense_0.bias", True),
    Named("self", "params.Dense_01.kernel", True),
    Named("self", "adapters.rank", True),
    Named("self", "batch_stats.mean", False),
    Named("x", "x.a", True),
    Named("x", "x.b[0]", True),
    Named("labels", "labels", False),
]
PATHS = [leaf.path for leaf in LEAVES if leaf.differentiated]


def kinds(**claims):
    found = resolve(claims, LEAVES)
    assert not found.problems
    return [claimed.kind if claimed else "" for claimed in found.by_leaf]


def test_true_stands_for_every_slot():
    assert kinds(exact=True) == ["exact"] * 6
    assert kinds(state=True) == ["state"] * 6
    assert kinds() == [""] * 6


def test_names_are_slots_collections_subtrees_and_leaves():
    assert kinds(exact="self") == ["exact"] * 4 + [""] * 2
    assert kinds(exact="params") == ["exact"] * 3 + [""] * 3
    assert kinds(zero="params.Dense_0") == ["zero"] * 2 + [""] * 4
    assert kinds(zero=("params.Dense_01.kernel", "x.b")) == ["", "", "zero", "", "", "zero"]
    assert kinds(surrogate="x.b[0]") == [""] * 5 + ["surrogate"]


def test_the_closest_name_counts():
    found = kinds(exact=True, surrogate="params", zero="params.Dense_0.bias", state="x")
    assert found == ["surrogate", "zero", "surrogate", "exact", "state", "state"]
    assert kinds(exact="self", zero="adapters")[3] == "zero"


def test_an_argument_without_gradient_is_zero_at_most():
    assert kinds(zero="labels") == [""] * 6
    [problem] = resolve({"exact": "labels"}, LEAVES).problems
    assert "`labels`, which has no gradient" in problem.message
    [problem] = resolve({"exact": "batch_stats"}, LEAVES).problems
    assert "outside `grad_vars`" in problem.message


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("params.Dense_0.kernle", "did you mean `params.Dense_0.kernel`?"),
        ("lables", "did you mean `labels`?"),
        ("zzzzz", "the slots are `self`, `x`, `labels`"),
        ("params.Dense", "did you mean `params.Dense_0`?"),
    ],
)
def test_a_claim_of_nothing_suggests_what_there_is(name, hint):
    [problem] = resolve({"surrogate": name}, LEAVES).problems
    assert problem.severity == "error"
    assert problem.check == "claim"
    assert f"the claim `surrogate` names `{name}`" in problem.message
    assert hint in problem.message


def test_a_parameter_without_arrays_is_something_all_the_same():
    known = {"parameters": ("self", "x", "labels", "y", "eps"), "untested": ("eps",)}
    [problem] = resolve({"exact": ("x", "y", "eps"), "zero": "y"}, LEAVES, **known).problems
    assert problem.severity == "warning"
    assert problem.message.startswith("the claim `exact` names `y`, which holds no array")
    [problem] = resolve({"exact": "y.a"}, LEAVES, **known).problems
    assert problem.severity == "error"


def test_two_claims_of_one_name_contradict_each_other():
    [problem] = resolve({"exact": "x", "zero": ("x",)}, LEAVES).problems
    assert "`x` is claimed to be `exact` and `zero`" in problem.message
    [problem] = resolve({"exact": True, "zero": True}, LEAVES).problems
    assert "`exact` and `zero` are claimed for every slot" in problem.message
