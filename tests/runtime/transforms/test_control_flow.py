"""Rules in control flow, control flow in rules."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from tests.runtime.compare import assert_same

X = jnp.array([0.5, 1.5, 2.5])


@pytest.fixture
def lifted(pair):
    return pair("transformed").lifted


def _grad(function):
    return jax.jit(jax.grad(lambda x: function(x).sum()))(X)


AROUND = {
    "alone": lambda f: f,
    "jit": jax.jit,
    "vmap": jax.vmap,
    "checkpoint": jax.checkpoint,
    "scan": lambda f: lambda x: lax.scan(lambda _, x: (None, f(x)), None, x[None])[1],
    "map": lambda f: lambda x: lax.map(f, x, batch_size=2),
    "cond": lambda f: lambda x: lax.cond(x.sum() > 0, f, jnp.exp, x),
    "vmap of cond": lambda f: jax.vmap(lambda x: lax.cond(x > 0, f, jnp.exp, x)),
    "associative_scan": lambda f: lambda x: lax.associative_scan(lambda a, b: b, f(x)),
    "vectorize": lambda f: jnp.vectorize(lambda x: f(x)),
}


@pytest.mark.parametrize("name", AROUND)
def test_a_while_loop_has_a_gradient_by_its_rule(pair, lifted, name):
    assert_same(_grad(AROUND[name](lifted.root)), 0.5 / jnp.sqrt(X), rtol=1e-5)


def test_a_while_loop_has_none_without_it(pair):
    with pytest.raises(ValueError, match="while_loop"):
        _grad(pair("transformed").plain.root)


def test_a_while_loop_has_gradients_of_any_order(lifted):
    """The forward rule's own loop is differentiated, unless it, too, is behind a rule."""
    with pytest.raises(ValueError, match="while_loop"):
        jax.jacrev(jax.grad(lambda x: lifted.root(x).sum()))(X)


@pytest.mark.parametrize("name", ["alone", "vmap", "checkpoint", "scan", "cond", "vmap of cond"])
def test_control_flow_in_every_part_of_a_rule(lifted, name):
    assert_same(_grad(AROUND[name](lifted.flowing)), 3 * jnp.cos(X), rtol=1e-5)


def test_rules_in_loops_that_are_not_differentiated(lifted):
    def loop(step):
        return lax.while_loop(lambda s: s[1] < 2, lambda s: (step(s[0]), s[1] + 1), (X, 0))[0]

    assert_same(loop(lifted.root), X**0.25, rtol=1e-5)
    assert_same(loop(jax.grad(lambda x: lifted.opaque(x).sum())), 2 * jnp.cos(2 * jnp.cos(X)))
