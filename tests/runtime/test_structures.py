"""Dataclasses and callables with arrays as arguments."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from tests.runtime.compare import assert_same


@pytest.fixture(scope="module")
def structures(pair):
    return pair("structures").lifted


def test_state_in_a_dataclass(structures):
    """The new scale comes back as the gradient; an integer has none, a static field stays."""
    x = jnp.linspace(-3.0, 2.0, 6)
    before = structures.Calibration(jnp.float32(0.5), jnp.int32(4))
    loss = lambda x, c: (structures.quantise(x, c) * jnp.arange(6.0)).sum()  # noqa: E731
    x_t, after = jax.jit(jax.grad(loss, (0, 1), allow_int=True))(x, before)
    assert_same(x_t, jnp.arange(6.0))
    assert_same(after.scale, jnp.float32(3.0) / 448, rtol=1e-6)
    assert after.steps.dtype == jax.dtypes.float0
    assert after.dtype is jnp.float8_e4m3fn


def test_a_callable_with_arrays(structures):
    matrix, offset = 0.1 * jnp.arange(4.0).reshape(2, 2), jnp.array([1.0, 2.0])

    def loss(matrix, offset):
        f = jax.tree_util.Partial(lambda a, b, z: a @ z + b, matrix, offset)
        return structures.solve(f, jnp.zeros(2)).sum()

    expected = jax.grad(lambda a, b: jnp.linalg.solve(jnp.eye(2) - a, b).sum(), (0, 1))
    assert_same(
        jax.jit(jax.grad(loss, (0, 1)))(matrix, offset), expected(matrix, offset), rtol=1e-5
    )
