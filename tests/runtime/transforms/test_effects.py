"""Host callbacks in primal, forward and backward rule."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from tests.runtime.compare import assert_same

X = jnp.array([0.5, -1.0, 2.0])


@pytest.fixture
def lifted(pair):
    source = pair("transformed").lifted
    source.LOG.clear()
    return source


def _log(source):
    jax.effects_barrier()
    return source.LOG


AROUND = {
    "alone": lambda f: f,
    "jit": jax.jit,
    "vmap": jax.vmap,
    "checkpoint": jax.checkpoint,
    "scan": lambda f: lambda x: lax.scan(lambda _, x: (None, f(x)), None, x[None])[1],
}


@pytest.mark.parametrize("name", AROUND)
def test_callbacks(lifted, name):
    grad = jax.grad(lambda x: AROUND[name](lifted.hosted)(x).sum())
    assert_same(jax.jit(grad)(X), 2 * jnp.cos(X), rtol=1e-6)
    assert set(_log(lifted)) == {"primal", "forward", "backward"}


def test_no_rule_runs_where_nothing_is_differentiated(lifted):
    assert_same(jax.jit(lifted.hosted)(X), jnp.sin(X), rtol=1e-6)
    assert _log(lifted) == ["primal"]


@pytest.mark.parametrize("jit", [False, True])
def test_ordered_effects_keep_their_order(lifted, jit):
    grad = jax.grad(lambda x: lifted.ordered(x).sum())
    assert_same((jax.jit(grad) if jit else grad)(X), 2 * jnp.cos(X), rtol=1e-6)
    assert _log(lifted) == ["forward", "primal", "backward"]
