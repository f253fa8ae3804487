"""Python floats, given or left to their defaults, are slots like any other."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import vjpgen
from vjpgen.testing import check_rule, verifying

X = jnp.array([0.25, -0.5, 2.0])


@pytest.fixture(autouse=True)
def gradients_alone(monkeypatch):
    monkeypatch.setattr(verifying, "_CHECKS", verifying._CHECKS[:4])


def scale(x, alpha=2.0):
    return x * alpha


def scaled(alpha_t, x_t=lambda alpha, y_t: alpha * y_t, **options):
    def fwd(x, alpha=2.0):
        return scale(x, alpha), (x, alpha)

    def bwd(residuals, y_t):
        x, alpha = residuals
        return x_t(alpha, y_t), alpha_t(x, y_t)

    found = jax.custom_vjp(scale, **options)
    found.defvjp(fwd, bwd)
    return found


def true(x, y_t):
    return jnp.sum(x * y_t)


def twice(x, y_t):
    return 2 * jnp.sum(x * y_t)


def relations(report):
    return {leaf.path: leaf.relation for leaf in report.leaves}


@pytest.mark.parametrize("around", [False, True])
def test_a_default_is_a_slot(around):
    def make(alpha_t):
        inner = scaled(alpha_t)
        return (lambda x, alpha=2.0: inner(x, alpha)) if around else inner

    assert relations(check_rule(make(true), X)) == {"x": "exact", "alpha": "exact"}
    assert check_rule(make(true), X, exact=("x", "alpha")).ok
    [error] = check_rule(make(twice), X, raises=False).errors
    assert (error.leaf, "a factor of 2 too much" in error.cause) == ("alpha", True)


def test_a_default_without_gradient_is_a_warning_unless_its_claim_names_it():
    rule = scaled(lambda x, y_t: None)
    for function in (rule, jax.jit(rule), lambda x, alpha=2.0: rule(x, alpha) + 0):
        report = check_rule(function, X)
        assert relations(report) == {"x": "exact", "alpha": "zero"}
        [warning] = [each for each in report.findings if each.severity == "warning"]
        assert "`alpha` is left to its default, and the rule gives it no gradient" in (
            warning.message
        )
    assert not check_rule(rule, X, exact=("x", "alpha"), raises=False).ok
    assert not check_rule(rule, X, 2.0, raises=False).ok
    assert not check_rule(scaled(lambda x, y_t: 0.0 * y_t[0] + 1.0), X, raises=False).ok


def test_a_default_among_surrogates_may_be_exact():
    signed = scaled(true, lambda alpha, y_t: jnp.sign(y_t))
    assert check_rule(signed, X, exact=(), surrogate=True).ok
    [error] = check_rule(scaled(true), X, exact=(), surrogate=True, raises=False).errors
    assert "`x` is claimed to be a surrogate" in error.message


def test_defaults_that_are_no_slots():
    def power(x, n=2.0):
        return x**n

    rule = jax.custom_vjp(power, nondiff_argnums=(1,))
    rule.defvjp(lambda x, n: (x**n, x), lambda n, x, y_t: (n * x ** (n - 1) * y_t,))
    assert relations(check_rule(rule, X)) == {"x": "exact"}
    own = vjpgen.custom_vjp(  # as Flax has it: what is not given has no tangent
        scale, lambda x: (scale(x), None), lambda _, y_t: (2 * y_t,)
    )
    assert relations(check_rule(own, X)) == {"x": "exact"}


# -- numbers that are read -------------------------------------------------------------------------


def reading(x, alpha, eps):
    return x * alpha if eps > 0 else x


def read(factor, reads=False):
    def fwd(x, alpha, eps):
        return reading(x, alpha, eps), (x, alpha)

    def bwd(residuals, y_t):
        x, alpha = residuals
        if reads:
            alpha = float(alpha)
        return alpha * y_t, factor * jnp.sum(x * y_t), None

    return vjpgen.custom_vjp(reading, fwd, bwd)


def untested(report):
    return [each.slot for each in report.findings if "is not tested" in each.message]


def test_one_float_that_is_read_leaves_the_others_slots():
    report = check_rule(read(1), X, 0.5, 1e-6, exact=("x", "alpha", "eps"))
    assert relations(report) == {"x": "exact", "alpha": "exact"}
    assert untested(report) == ["eps"]
    [error] = check_rule(read(-99), X, 0.5, 1e-6, raises=False).errors
    assert error.leaf == "alpha"


def test_floats_that_the_rule_alone_reads():
    assert untested(check_rule(read(1, reads=True), X, 0.5, 1e-6)) == ["alpha", "eps"]


def test_floats_alone_and_static_arguments():
    def function(alpha, eps):
        return scaled(true)(alpha, 3.0) if eps > 0 else alpha

    assert relations(check_rule(function, 0.5, 1e-6)) == {"alpha": "exact"}
    static = jax.jit(lambda x, eps=1e-6: function(x, eps), static_argnames="eps")
    assert untested(check_rule(static, X)) == ["eps"]


def test_what_the_function_raises_is_raised():
    def function(x, alpha):
        raise TypeError("of the user's own")

    with pytest.raises(TypeError, match="of the user's own"):
        check_rule(function, X, 2.0)
