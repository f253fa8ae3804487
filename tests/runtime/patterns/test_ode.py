"""The adjoint's gradients against autodiff through the solver and finite differences."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from tests.runtime.compare import assert_same, double


@pytest.fixture
def ode(pair, x64):
    return pair("patterns/ode")


@pytest.mark.parametrize("wrap", [lambda f: f, jax.checkpoint], ids=["plain", "remat"])
def test_adjoint(ode, wrap):
    y = jax.random.normal(jax.random.key(1), (2, 2))
    plain, lifted = ode.plain.NeuralOde(), ode.lifted.NeuralOde()
    params = lifted.init(jax.random.key(0), y)
    assert_same(plain.init(jax.random.key(0), y), params)
    params = double(params)

    def loss(module):
        return lambda params, y: (module.apply(params, y) ** 2).sum()

    value, gradient = jax.jit(jax.value_and_grad(wrap(loss(lifted)), (0, 1)))(params, y)
    # the solvers' errors, of fourth order, are all that parts the two
    expected = jax.jit(jax.value_and_grad(loss(plain), (0, 1)))(params, y)
    assert_same((value, gradient), expected, rtol=1e-5)
    flat, rebuild = ravel_pytree((params, y))
    direction = np.cos(np.arange(flat.size))
    along = jax.jit(lambda e: loss(lifted)(*rebuild(flat + e * direction)))
    numeric = (along(1e-5) - along(-1e-5)) / 2e-5
    np.testing.assert_allclose(direction @ ravel_pytree(gradient)[0], numeric, 1e-5)


def test_the_ends_of_time_and_a_batch_of_states(ode):
    """vmap over states; the gradients of both times, exact for a linear equation."""

    class Decay(nn.Module):
        @nn.compact
        def __call__(self, y, t):
            return -self.param("rate", lambda _: jnp.float64(0.7)) * y

    module = Decay()
    variables = module.init(jax.random.key(0), jnp.ones(1), 0.0)

    def end(variables, y, start, end):
        run = lambda m: ode.lifted.flow(m, y, start, end, steps=40).sum()  # noqa: E731
        return nn.apply(run, module)(variables)

    y, start, stop = jnp.array([[1.0], [2.0]]), 0.5, 2.0
    one = jax.grad(end, (0, 1, 2, 3))
    found = jax.jit(jax.vmap(one, (None, 0, None, None)))(variables, y, start, stop)
    left = np.exp(-0.7 * 1.5)
    y = np.asarray(y)
    expected = {"params": {"rate": -1.5 * left * y[:, 0]}}, left + 0 * y
    expected += (0.7 * left * y[:, 0], -0.7 * left * y[:, 0])
    assert_same(found, jax.tree.map(jnp.asarray, expected), rtol=1e-6)


def test_the_residuals_do_not_grow_with_the_steps(ode):
    y = jnp.ones((3, 2))

    def kept(source, steps):
        module = source.Dynamics()
        variables = module.init(jax.random.key(0), y, 0.0)
        run = lambda v, y: nn.apply(  # noqa: E731
            lambda m: source.flow(m, y, 0.0, 1.0, steps=steps), module
        )(v)
        return sum(x.size for x in jax.tree.leaves(jax.vjp(run, variables, y)[1]))

    assert kept(ode.lifted, 5) == kept(ode.lifted, 10) < 60
    assert kept(ode.plain, 10) > kept(ode.plain, 5)
