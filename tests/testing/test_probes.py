"""What is compared where autodiff of the source says nothing, and what is not."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vjpgen.testing import RuleReport, check_rule, probes, verifying


@pytest.fixture
def gradients_alone(monkeypatch):
    """Leave out the checks that come after that of gradients, for what they say nothing of."""
    monkeypatch.setattr(verifying, "_CHECKS", verifying._CHECKS[:4])


alone = pytest.mark.usefixtures("gradients_alone")


def drawn(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def ruled(function, backward):
    """Return a function with a rule that keeps its argument."""
    found = jax.custom_vjp(function)
    found.defvjp(lambda x: (function(x), x), lambda x, g: (backward(x, g),))
    return found


def autodiff(function):
    """Return a function whose rule is autodiff of it."""
    found = jax.custom_vjp(function)
    found.defvjp(lambda *args: jax.vjp(function, *args), lambda pull, g: pull(g))
    return found


def verified(function, *args: Any, **options: Any) -> RuleReport:
    return check_rule(function, *args, raises=False, **options)


def said(report: RuleReport, severity: str) -> list[str]:
    return [each.message for each in report.findings if each.severity == severity]


# -- where autodiff is not finite ------------------------------------------------------------------


def roots(x):
    return jnp.sum(jnp.sqrt(x))


@alone
@pytest.mark.parametrize(
    ("slope", "at_zero", "ok"),
    [
        (lambda x: 0.5 / jnp.sqrt(x), 0.0, True),
        (lambda x: -7 * x, 0.0, False),
        (jnp.zeros_like, 0.0, False),
        (lambda x: 0.5 / jnp.sqrt(x), -jnp.inf, False),
    ],
)
def test_one_infinity_does_not_hide_the_others(slope, at_zero, ok):
    def backward(x, g):
        return g * jnp.where(x > 0, slope(jnp.where(x > 0, x, 1)), at_zero)

    report = verified(ruled(roots, backward), jnp.abs(drawn(32)).at[0].set(0))
    assert report.ok == ok, report
    assert not said(report, "warning")


def normalised(x):
    size = jnp.sqrt(jnp.sum(x * x, -1, keepdims=True))
    return jnp.where(size > 0, x / jnp.where(size > 0, size, 1), 0)


def test_a_row_of_zeros_does_not_hide_the_others():
    def projected(x, g):
        size = jnp.sqrt(jnp.sum(x * x, -1, keepdims=True))
        safe = jnp.where(size > 0, size, 1)
        y = x / safe
        return jnp.where(size > 0, (g - y * jnp.sum(y * g, -1, keepdims=True)) / safe, 0)

    def forgotten(x, g):
        size = jnp.sqrt(jnp.sum(x * x, -1, keepdims=True))
        return jnp.where(size > 0, 3 * g / jnp.where(size > 0, size, 1), 0)

    x = drawn(32, 16).at[0].set(0)
    right = verified(ruled(normalised, projected), x)
    assert right.ok, right
    assert "(16 of 512 components)" in said(right, "note")[0]
    assert not said(right, "warning")
    assert not verified(ruled(normalised, forgotten), x).ok


@alone
@pytest.mark.parametrize(("below", "ok"), [(0.0, True), (0.5, False)])
def test_where_autodiff_alone_is_nan_differences_decide(below, ok):
    def function(x):
        return jnp.where(x > 0, x * jnp.sqrt(x), 0)

    def backward(x, g):
        return g * jnp.where(x > 0, 1.5 * jnp.sqrt(jnp.where(x > 0, x, 1)), below)

    report = verified(ruled(function, backward), drawn(100))
    assert report.ok == ok, report
    assert not any("was not compared" in each for each in said(report, "note"))


@alone
def test_of_many_components_some_are_left_out_and_counted(monkeypatch):
    monkeypatch.setattr(probes, "_MOST_AXES", 5)

    def function(x):
        trap = jnp.where(jnp.max(x) > 9, jnp.sqrt(-1 - x * x), 0)
        return x * x + jnp.sign(x) * jnp.sqrt(jnp.abs(x)) + trap

    def rule(factor):
        def backward(x, g):
            root = jnp.sqrt(jnp.where(x == 0, 1, jnp.abs(x)))
            return g * (factor * x + jnp.where(x == 0, 0, 1 / (2 * root)))

        return ruled(function, backward)

    x = drawn(20).at[0].set(0)
    report = verified(rule(2), x)
    assert report.ok, report
    assert re.search(r"not compared \(1[56] of 20 components\)", str(said(report, "note")))
    assert "where finite differences give" in verified(rule(3), x).errors[0].message


def test_infinities_that_are_autodiffs_too_are_told():
    report = verified(autodiff(jnp.sqrt), jnp.array([0.0, 1.0, 2.0]))
    assert report.ok, report
    [warning] = said(report, "warning")
    assert warning == (
        "the gradient of `x` is not finite at [0], as autodiff's is not: take another example"
    )
    report = verified(autodiff(jnp.sqrt), jnp.zeros(2))
    assert [each.relation for each in report.leaves] == ["unknown"]


@alone
@pytest.mark.parametrize("masked", [0.0, 3.0])
def test_a_mask_of_infinities_is_no_source_of_nan(masked):
    def function(x, mask):
        return jax.nn.softmax(x + mask, -1)

    rule = jax.custom_vjp(function)
    rule.defvjp(
        lambda *args: jax.vjp(function, *args),
        lambda pull, g: (pull(g)[0], pull(g)[1].at[0, 3].add(masked * g[0, 0])),
    )
    mask = jnp.where(jnp.tril(jnp.ones((4, 4))) > 0, 0.0, -jnp.inf)
    report = verified(rule, drawn(4, 4), mask)
    assert report.ok == (masked == 0), report
    assert not said(report, "warning")


# -- where there is no autodiff --------------------------------------------------------------------


def cubed(x):
    return jax.lax.while_loop(lambda c: c[0] < 2, lambda c: (c[0] + 1, c[1] * x), (0, x))[1]


@alone
def test_without_time_each_leaf_is_probed_along_random_lines(monkeypatch):
    monkeypatch.setattr(probes, "_ENOUGH", -1.0)

    def function(a, b):
        return cubed(a) * b

    def rule(factor):
        found = jax.custom_vjp(function)
        found.defvjp(
            lambda a, b: (function(a, b), (a, b)),
            lambda saved, g: (3 * saved[0] ** 2 * saved[1] * g, factor * saved[0] ** 3 * g),
        )
        return found

    arguments = drawn(5), drawn(5) + 3
    report = verified(rule(1.0), *arguments)
    assert report.ok, report
    assert {each.relation for each in report.leaves} == {"exact"}
    assert "along a line, where finite differences give" in (
        verified(rule(1.001), *arguments).errors[0].message
    )


@alone
def test_what_a_user_allows_is_allowed_beside_differences_too():
    """The gradient of a loop that ends early is not that of what it would end at."""
    rule = ruled(cubed, lambda x, g: 3.01 * x * x * g)
    x = jnp.array([0.5, -1.0, 2.0])
    assert not verified(rule, x).ok
    assert not verified(rule, x, rtol=1e-3, atol=1e-3).ok
    assert verified(rule, x, rtol=1e-2).ok
    assert verified(rule, x, atol=0.1).ok


@alone
def test_what_cannot_be_compared_is_told_and_not_called_wrong():
    def coarse(x):
        return cubed(x).astype(jnp.bfloat16)

    rule = ruled(coarse, lambda x, g: 3 * x * x * g.astype(x.dtype))
    report = verified(rule, drawn(5))
    assert report.status == "unverified", report
    assert [each.relation for each in report.leaves] == ["unknown"]
    [warning] = said(report, "warning")
    assert "was not compared (5 of 5 components)" in warning


@alone
def test_nan_is_wrong_where_differences_are_finite():
    rule = ruled(cubed, lambda x, g: jnp.where(x > 0, 3 * x * x * g, jnp.nan))
    report = verified(rule, drawn(5))
    assert "is wrong: nan at [" in report.errors[0].message


# -- kinks -----------------------------------------------------------------------------------------


@alone
@pytest.mark.parametrize(("at_zero", "ok"), [(1.0, True), (2.0, False)])
def test_of_many_kinks_some_are_looked_at(at_zero, ok, monkeypatch):
    monkeypatch.setattr(probes, "_KINKS", 8)
    rule = ruled(
        lambda x: jnp.maximum(x, 0), lambda x, g: g * jnp.where(x == 0, at_zero, 1.0 * (x > 0))
    )
    report = verified(rule, jnp.where(jnp.arange(100) % 2 == 0, 0.0, drawn(100)))
    assert report.ok == ok, report
    if ok:
        assert "(8 of 50 components were looked at)" in said(report, "note")[0]


@alone
def test_two_hundred_kinks_are_no_error():
    rule = ruled(lambda x: jnp.maximum(x, 0), lambda x, g: g * (x >= 0))
    report = verified(rule, jnp.where(jnp.arange(400).reshape(20, 20) % 2 == 0, 0.0, drawn(20, 20)))
    assert report.ok, report


# -- cancellation ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mean", [100.0, 300.0])
def test_what_cancels_in_single_precision_is_no_error(mean):
    def variance(x):
        x = x.astype(jnp.float32)
        return jnp.mean(x * x, -1) - jnp.mean(x, -1) ** 2

    report = verified(autodiff(variance), drawn(4, 1000) + mean)
    assert report.ok, report
    assert not said(report, "warning")


@alone
def test_rounding_is_no_kink_and_no_excuse():
    """A derivative that is off by a twentieth is seen beside the noise of single precision."""

    def variance(x):
        x = x.astype(jnp.float32)
        return jnp.mean(x * x, -1) - jnp.mean(x, -1) ** 2

    rule = ruled(
        variance,
        lambda x, g: 2.1 * (x - jnp.mean(x, -1, keepdims=True)) * g[:, None] / x.shape[-1],
    )
    assert not verified(rule, drawn(4, 1000) + 100).ok
