"""What is measured is what arithmetic says."""

from __future__ import annotations

import itertools

import pytest

from tests.inspecting.conftest import Inspected
from vjpgen.inspecting.report import Side

FLOAT = 8 * 16 * 4  # bytes of the example's float32[8,16]


def kept(side: Side) -> list[tuple[str, str]]:
    return sorted((each.kind, each.name or each.type) for each in side.residuals)


def expressions(side: Side) -> set[str]:
    return {each.origin.expression for each in side.residuals if each.origin}


def test_a_rule_that_keeps_its_argument_computes_nothing_to_keep(inspected: Inspected):
    report = inspected("recomputed")
    assert kept(report.rule) == [("argument", "x")]
    assert (report.rule.kept, report.autodiff.kept, report.ratio) == (0, FLOAT, 0)
    assert kept(report.autodiff) == [("computed", "float32[8,16]")]
    assert expressions(report.autodiff) == {"jnp.sin(x)"}


def test_a_rule_that_keeps_a_mask_keeps_a_byte_for_each_element(inspected: Inspected):
    report = inspected("masked")
    assert kept(report.rule) == [("computed", "bool[8,16]")]
    assert expressions(report.rule) == {"x > 0"}
    assert (report.rule.kept, report.autodiff.kept, report.ratio) == (8 * 16, FLOAT, 0.25)


def test_a_rule_that_keeps_more_is_shown_to(inspected: Inspected):
    report = inspected("hoarded")
    assert report.rule.kept == 2 * FLOAT
    assert report.ratio == 2
    outputs = [each for each in report.rule.residuals if each.is_output]
    assert [each.origin and each.origin.expression for each in outputs] == ["jnp.sin(x)"]
    constants = [each for each in report.rule.residuals if each.kind == "constant"]
    assert [each.size for each in constants] == [FLOAT]
    assert [each.kind for each in report.rule.residuals][2:] == ["argument", "constant"]


@pytest.mark.parametrize(("number", "weights"), [(0, "float32[4]"), (1, "float32[4,4]")])
def test_nondiff_arguments_are_not_differentiated(inspected: Inspected, number, weights):
    report = inspected("power", number)
    given = [(each.name, each.type, each.differentiated) for each in report.given]
    assert given == [("x", "float32[4,4]", True), ("weights", weights, False)]
    assert kept(report.rule) == [("argument", "weights"), ("argument", "x")]


def test_a_function_that_jax_traces_once_is_found_at_each_of_its_calls(inspected: Inspected):
    report = inspected("waves")
    assert len(report.autodiff.residuals) == 2
    # where JAX knows the inner function only by its first call, the second call is shown itself
    assert {"jnp.sin(x)"} <= expressions(report.autodiff) <= {"jnp.sin(x)", "wave(y)"}
    assert report.ratio == 1


def test_what_a_loop_keeps_is_found_inside_of_it(inspected: Inspected):
    report = inspected("looped")
    assert expressions(report.autodiff) == {"jnp.tanh(carry)"}
    assert all(each.shape[0] == 5 for each in report.autodiff.residuals)


def test_a_module_comes_with_its_variables_and_keys(inspected: Inspected):
    report = inspected("Stateful.__call__")
    names = {each.name for each in report.given if each.differentiated}
    layers = {"inner": ("kernel", "bias"), "BatchNorm_0": ("scale", "bias")}
    assert names == {"x", *(f"params.{k}.{v}" for k, vs in layers.items() for v in vs)}
    others = {each.name for each in report.given} - names
    stats = {"batch_stats.BatchNorm_0.mean", "batch_stats.BatchNorm_0.var"}
    assert others == {*stats, "fixed.scale", "rngs.params"}
    assert ("argument", "params.inner.kernel") in kept(report.rule)
    assert report.rule.kept == report.autodiff.kept > 0


def test_a_nested_function_is_measured_in_the_method_around_it(inspected: Inspected):
    report = inspected("Nested.__call__.<locals>.f")
    assert report.called == "Nested.__call__"
    assert "jnp.sin(dense(x))" in expressions(report.rule)
    assert report.rule.kept == report.autodiff.kept == 4 * 8 * 4
    step = [side.programs["step"].operations for side in (report.rule, report.autodiff)]
    assert step[0] == step[1] + 1  # the tangent is doubled


def test_places_are_those_of_the_source(inspected: Inspected, project):
    (mask,) = inspected("masked").rule.residuals
    assert mask.origin is not None
    lines = (project / "inspected_sources.py").read_text().splitlines()
    assert lines[mask.origin.row - 1].endswith("masked(x), x > 0")
    assert mask.origin.filename == str(project / "inspected_sources.py")


def test_memory_over_the_step(inspected: Inspected):
    report = inspected("recomputed")
    # x is an argument; sin(x) is the output; then come cos(x), the cotangent, and their product
    assert [each.size for each in report.rule.memory.forward] == [FLOAT]
    assert [each.operation for each in report.rule.memory.backward] == ["cos", "mul"]
    assert [each.size for each in report.rule.memory.backward] == [2 * FLOAT, 3 * FLOAT]
    assert [each.size for each in report.autodiff.memory.backward] == [3 * FLOAT]
    assert report.rule.memory.peak == 3 * FLOAT


def test_memory_counts_what_a_loop_keeps(inspected: Inspected):
    memory = inspected("looped").autodiff.memory
    residuals = inspected("looped").autodiff.kept
    assert memory.forward[-1].size >= residuals
    assert memory.backward[0].size >= residuals
    assert memory.peak < 2 * residuals


def test_costs_are_those_of_xla(inspected: Inspected):
    report = inspected("recomputed")
    for side, name in itertools.product((report.rule, report.autodiff), ("forward", "step")):
        program = side.programs[name]
        assert program.accessed is not None
        assert program.accessed >= 2 * FLOAT
        assert program.instructions
        assert program.temporary is not None
    assert report.rule.programs["primal"].operations == 1
    assert report.rule.programs["step"].operations == 3
    assert "cos" in report.rule.programs["backward"].jaxpr
    assert "cos" in report.autodiff.programs["forward"].jaxpr
    # an argument that is kept is not copied
    assert report.rule.programs["forward"].accessed == report.rule.programs["primal"].accessed
