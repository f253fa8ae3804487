"""Functions of one place in the source that call each other: each has its rule."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import vjpgen
from tests.runtime.compare import assert_same

X = jax.random.normal(jax.random.key(1), (2, 3))


@pytest.fixture
def lifted(pair):
    return pair("transformed").lifted


def _grad(function):
    return jax.grad(lambda x: function(x).sum())(X)


def test_a_rule_around_one_of_its_kind(lifted):
    inner = lifted.scaled(3.0, jnp.sin)
    assert_same(_grad(inner), 3 * jnp.cos(X), rtol=1e-6)
    by_name = lifted.scaled(2.0, lambda x: inner(x))
    for twice in (lifted.scaled(2.0, inner), lifted.scaled(2.0, jax.jit(inner)), by_name):
        assert_same(_grad(twice), 6 * jnp.cos(X), rtol=1e-6)
        assert_same(_grad(jax.jit(jax.checkpoint(twice))), 6 * jnp.cos(X), rtol=1e-6)
    in_a_list = lifted.scaled(5.0, lambda x, steps=(inner, by_name): sum(s(x) for s in steps))
    assert_same(_grad(in_a_list), 45 * jnp.cos(X), rtol=1e-6)


def test_a_rule_of_a_module_around_one_of_its_kind(lifted):
    module = lifted.ScaledTwice()
    variables = module.init(jax.random.key(0), X)
    plain = {"params": variables["params"]["Dense_0"]}
    expected = jax.grad(lambda v: nn.Dense(3).apply(v, X).sum())(plain)
    actual = jax.grad(lambda v: module.apply(v, X).sum())(variables)
    doubled = jax.tree.map(lambda t: 6 * t, expected["params"])
    assert_same(actual["params"]["Dense_0"], doubled, rtol=1e-6)


def test_rules_that_differ_by_a_number_alone(lifted):
    module = lifted.Deeper()
    variables = module.init(jax.random.key(0), X)
    dense = nn.Dense(3).bind({"params": variables["params"]["dense"]})

    def by_hand(x):
        for depth in (3, 2, 1):
            scale = jax.custom_vjp(lambda x: x)
            scale.defvjp(lambda x: (x, None), lambda _, t, depth=depth: (depth * t,))
            x = jnp.tanh(dense(scale(x)))
        return x

    assert_same(_grad(lambda x: module.apply(variables, x)), _grad(by_hand), rtol=1e-6)


def test_drop_ins_of_one_place():
    def scaled(factor, g):
        def forward(x):
            return jax.vjp(f, x)

        f = vjpgen.custom_vjp(g, forward, lambda vjp_fn, t: (factor * vjp_fn(t)[0],))
        return f

    assert_same(_grad(scaled(2.0, scaled(3.0, jnp.sin))), 6 * jnp.cos(X), rtol=1e-6)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_a_transformed_method_that_calls_itself(lifted, wrap):
    module = lifted.Again()
    expected = 4 * jax.vmap(jax.vmap(jax.grad(lambda x: jnp.sin(jnp.sin(x)))))(X)
    found = wrap(jax.grad(lambda x: module.apply({}, x).sum()))(X)
    assert_same(found, expected, rtol=1e-6)
