"""Implicit gradients against an exact linear solve and against autodiff of the iteration."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vjpgen
from tests.runtime.compare import assert_same, double


@pytest.fixture
def fixed(pair, x64):
    return pair("patterns/fixed_point")


def affine(theta, z):
    matrix, offset = theta
    return matrix @ z + offset


def test_an_affine_map_has_an_exact_solution(fixed):
    matrix = 0.2 * np.cos(np.arange(16.0)).reshape(4, 4)
    offset, seed = np.sin(np.arange(4.0)), np.array([1.0, -2.0, 0.5, 3.0])

    def loss(theta, start):
        return jnp.vdot(seed, fixed.lifted.solve(affine, theta, start))

    found = jax.jit(jax.value_and_grad(loss, (0, 1)))((matrix, offset), np.ones(4))
    z = np.linalg.solve(np.eye(4) - matrix, offset)
    u = np.linalg.solve(np.eye(4) - matrix.T, seed)
    expected = (seed @ z, ((np.outer(u, z), u), np.zeros(4)))
    assert_same(found, jax.tree.map(jnp.asarray, expected), rtol=1e-10)
    # many right-hand sides at once; each stops when it is done
    offsets = np.stack([offset, 3 * offset])
    one = jax.grad(lambda o: loss((matrix, o), np.ones(4)))
    assert_same(jax.jit(jax.vmap(one))(offsets), jnp.stack([u, u]), rtol=1e-10)


def test_a_function_that_captures_what_is_differentiated(fixed):
    """A static callable has no slot for what it captured: that is said, with what to do."""

    def loss(offset):
        f = lambda theta, z: 0.5 * jnp.sin(z) + theta + offset  # noqa: E731
        return fixed.lifted.solve(f, jnp.zeros(2), jnp.zeros(2)).sum()

    with pytest.warns(vjpgen.DroppedTangentWarning, match=r"captured value 'offset'.*argument"):
        assert_same(jax.grad(loss)(jnp.ones(2)), jnp.zeros(2))
    captured = jnp.ones(2)
    theta_t = jax.jit(
        jax.grad(
            lambda theta: fixed.lifted.solve(
                lambda theta, z: 0.5 * jnp.sin(z) + theta + captured, theta, jnp.zeros(2)
            ).sum()
        )
    )(jnp.zeros(2))
    z = fixed.plain.solve(lambda _, z: 0.5 * jnp.sin(z) + 1, None, jnp.zeros(2))
    assert_same(theta_t, 1 / (1 - 0.5 * jnp.cos(z)), rtol=1e-10)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.checkpoint], ids=["plain", "remat"])
def test_a_deep_equilibrium_layer(fixed, wrap):
    x = jax.random.normal(jax.random.key(1), (3, 2))
    plain = fixed.plain.Equilibrium(fixed.plain.Cell(4))
    lifted = fixed.lifted.Equilibrium(fixed.lifted.Cell(4))
    params = lifted.init(jax.random.key(0), x)
    assert_same(plain.init(jax.random.key(0), x), params)
    params = double(params)

    def unrolled(params, x):
        z = jnp.zeros((3, 4))
        cell = {"params": params["params"]["cell"]}
        z = jax.lax.fori_loop(0, 150, lambda _, z: fixed.plain.Cell(4).apply(cell, z, x), z)
        return (z**2).sum()

    loss = wrap(lambda params, x: (lifted.apply(params, x) ** 2).sum())
    found = jax.jit(jax.value_and_grad(loss, (0, 1)))(params, x)
    assert_same(found, jax.jit(jax.value_and_grad(unrolled, (0, 1)))(params, x), rtol=1e-9)
