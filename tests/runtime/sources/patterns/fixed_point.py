"""A fixed point whose gradient is one, too: implicit differentiation with static callables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


def iterate(step, start, tolerance, limit):
    """Apply `step` until nothing moves by more than the tolerance, or often enough."""

    def moves(state):
        before, now, count = state
        distance = jnp.abs(now - before).max()
        return (count < limit) & (distance > tolerance)

    _, found, _ = jax.lax.while_loop(
        moves, lambda state: (state[1], step(state[1]), state[2] + 1), (start, step(start), 1)
    )
    return found


def solve_fwd(f, theta, start, tolerance, limit):
    z = solve(f, theta, start, tolerance, limit)
    return z, (theta, z)


def solve_bwd(f, tolerance, limit, residuals, z_t):
    """Solve u = z_t + J^T u by iteration, J the Jacobian of f at the solution."""
    theta, z = residuals
    _, z_vjp = jax.vjp(lambda z: f(theta, z), z)
    u = iterate(lambda u: z_t + z_vjp(u)[0], z_t, tolerance, limit)
    _, theta_vjp = jax.vjp(lambda theta: f(theta, z), theta)
    return *theta_vjp(u), None


# custom-vjp: fwd=solve_fwd, bwd=solve_bwd, nondiff_argnames=(f, tolerance, limit)
# custom-vjp: exact=theta, zero=start, example=example
def solve(f: Callable[[Any, Any], Any], theta, start, tolerance=1e-12, limit=1000):
    """Return z = f(theta, z), found from `start`; f has to bring any two z nearer to each other."""
    return iterate(lambda z: f(theta, z), start, tolerance, limit)


class Cell(nn.Module):
    """One step of a deep equilibrium layer."""

    features: int

    @nn.compact
    def __call__(self, z, x):
        shape = (self.features, self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        kernel = kernel * jnp.minimum(1, 0.8 / jnp.abs(kernel).sum(0))
        return nn.tanh(z @ kernel + nn.Dense(self.features)(x))


class Equilibrium(nn.Module):
    """A layer that is the fixed point of a cell (Bai et al., 2019); any cell will do."""

    cell: nn.Module

    @nn.compact
    def __call__(self, x):
        z = self.cell(jnp.zeros((*x.shape[:-1], self.cell.features), x.dtype), x)
        cell, variables = self.cell.unbind()

        def step(theta, z):
            variables, x = theta
            return cell.apply(variables, z, x)

        return solve(step, (variables, x), jax.lax.stop_gradient(z))


def example(key):
    """Return a step that brings any two z nearer, its parameters and where to begin."""
    matrix, offset = jax.random.normal(key, (2, 4, 4))
    matrix = 0.8 * matrix / jnp.abs(matrix).sum(0)
    return lambda theta, z: jnp.tanh(z @ theta[0] + theta[1]), (matrix, offset), jnp.zeros((4, 4))
