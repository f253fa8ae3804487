"""A function of which nothing is verified is not called verified."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest

import vjpgen
from vjpgen.testing import check_rule, verifying

X = jnp.array([0.25, -0.5, 2.0])


@pytest.fixture(autouse=True)
def gradients_alone(monkeypatch):
    monkeypatch.setattr(verifying, "_CHECKS", verifying._CHECKS[:4])


def ruled(function, fwd, bwd, **options):
    found = jax.custom_vjp(function, **options)
    found.defvjp(fwd, bwd)
    return found


def sine(bwd):
    return ruled(jnp.sin, lambda x: (jnp.sin(x), x), bwd)


def wrong(x, y_t):
    return (7 * jnp.cos(x) * y_t,)


@jax.custom_jvp
def tangents(x):
    return jnp.sin(x)


tangents.defjvp(lambda primals, x_t: (jnp.sin(*primals), 99 * x_t[0]))


@pytest.mark.parametrize(
    "function",
    [lambda x: jnp.sin(x), jnp.sin, jax.jit(jnp.tanh), tangents, lambda x: tangents(x) * 2],
)
def test_a_function_without_a_rule_fails(function):
    with pytest.raises(AssertionError, match="no rule is reached: the function and its source"):
        check_rule(function, X)
    report = check_rule(function, X, raises=False)
    assert (report.status, report.checks, report.leaves) == ("failed", (), ())


def test_a_rule_that_is_not_called_is_not_reached():
    rule = sine(wrong)
    report = check_rule(lambda x, use: rule(x) if use else jnp.sin(x), X, False, raises=False)
    assert "no rule is reached" in report.errors[0].message


def test_a_reference_needs_no_rule():
    assert check_rule(lambda x: jnp.tanh(x), X, reference=jnp.tanh).ok
    assert not check_rule(tangents, X, reference=jnp.sin, raises=False).ok


def test_rules_of_libraries_are_a_part_of_the_source():
    key = jax.random.key(0)
    right = sine(lambda x, y_t: (jnp.cos(x) * y_t,))
    logits, labels = jax.random.normal(key, (2, 3)), jnp.array([0, 2])

    def loss(logits, own):
        logits = right(logits) if own else logits
        return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)

    assert check_rule(loss, logits, True).ok
    assert not check_rule(loss, logits, False, raises=False).ok


@pytest.mark.parametrize("wrap", [functools.partial, jax.tree_util.Partial])
def test_a_partial_backward_rule_inside_is_compared(wrap):
    rule = sine(wrap(wrong))
    for function in (rule, lambda x: rule(x) + 0):
        [error] = check_rule(function, X, raises=False).errors
        assert "a factor of 7 too much" in error.cause


def test_a_custom_gradient_inside_is_compared():
    @jax.custom_gradient
    def function(x):
        return jnp.sin(x), lambda y_t: (7 * jnp.cos(x) * y_t,)

    for each in (function, lambda x: function(x) + 0):
        report = check_rule(each, X, raises=False)
        assert "a factor of 7 too much" in report.errors[0].cause
        assert report.filename.endswith("test_reached.py")


class Inside(nn.Module):
    """Calls a rule of Flax's, or of vjpgen's."""

    make: str

    @nn.compact
    def __call__(self, x):
        def call(module, x):
            return module(x)

        def forward(module, x):
            return nn.vjp(call, module, x)

        make = {"vjpgen": vjpgen, "flax": nn}[self.make].custom_vjp
        return make(call, forward, lambda pull, y_t: pull(2 * y_t))(nn.Dense(2), x)


@pytest.mark.parametrize("make", ["vjpgen", "flax"])
def test_a_rule_in_a_method_is_reached(make):
    report = check_rule(Inside.__call__, Inside(make), X, raises=False)
    assert {leaf.relation for leaf in report.leaves} == {"different"}


def test_outputs_without_tangents_leave_a_rule_unverified():
    rule = ruled(jnp.argmax, lambda x: (jnp.argmax(x), x), lambda x, y_t: (jnp.ones_like(x),))
    report = check_rule(rule, X, raises=False)
    assert (report.status, report.ok, report.errors) == ("unverified", False, ())
    [finding] = report.findings
    assert finding.message.startswith("nothing was verified: no output is of a floating point")
    with pytest.raises(AssertionError, match="nothing was verified"):
        check_rule(rule, X)
