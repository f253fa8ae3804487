"""Computations on the host, behind a gradient of their own."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

# -- a gradient in closed form ---------------------------------------------------------------------


def on_host(function, like, *arguments):
    """Call a numpy function of arrays, any batch of them at once; its result is like `like`."""
    kind = jax.ShapeDtypeStruct(like.shape, like.dtype)
    return jax.pure_callback(function, kind, *arguments, vmap_method="expand_dims")


def host_sinc_fwd(x):
    y = host_sinc(x)
    return y, (x, y)


def host_sinc_bwd(residuals, y_t):
    x, y = residuals
    at_zero = x == 0
    safe = jnp.where(at_zero, 1, x)
    return (jnp.where(at_zero, 0, (jnp.cos(jnp.pi * safe) - y) / safe) * y_t,)


# custom-vjp: fwd=host_sinc_fwd, bwd=host_sinc_bwd, exact=x, example=some_numbers
def host_sinc(x):
    """Compute sin(pi x) / (pi x) by numpy; JAX cannot differentiate it."""
    return on_host(lambda x: np.sinc(x).astype(x.dtype), x, x)


# -- a gradient by a second callback ---------------------------------------------------------------


def simulate(force, stiffness):
    """Solve for the displacements of a chain of springs: a black box that runs on the host."""
    matrix = (
        2 * np.eye(force.shape[-1]) - np.eye(force.shape[-1], k=1) - np.eye(force.shape[-1], k=-1)
    )
    solved = np.linalg.solve(matrix * np.asarray(stiffness)[..., None, None], force[..., None])
    return solved[..., 0].astype(force.dtype)


class Springs(nn.Module):
    """A layer that asks a simulator; the simulator is its own adjoint."""

    # custom-vjp: fwd=relax, bwd=relax_back, exact=True, example=a_chain
    @nn.compact
    def __call__(self, force):
        stiffness = self.param("stiffness", nn.initializers.ones, ())
        return on_host(simulate, force, force, stiffness)

    @nn.compact
    def relax(self, force):
        y = self(force)
        return y, y

    def relax_back(self, y, y_t):
        stiffness = self.get_variable("params", "stiffness")
        force_t = on_host(simulate, y_t, y_t, stiffness)
        return {"params": {"stiffness": -jnp.vdot(y_t, y) / stiffness}}, force_t


# -- a shield around any host function -------------------------------------------------------------


def shield_fwd(function, gradient, x):
    return shield(function, gradient, x), x


def shield_bwd(function, gradient, x, y_t):
    del function
    return (on_host(gradient, x, x, y_t),)


# custom-vjp: fwd=shield_fwd, bwd=shield_bwd, nondiff_argnums=(0, 1), exact=x, example=a_sine
def shield(function, gradient, x):
    """Call `function(x)` on the host; `gradient(x, y_t)` there gives the tangent of `x`."""
    return on_host(function, x, x)


# -- examples --------------------------------------------------------------------------------------


def some_numbers(key):
    """Return numbers, 0 among them."""
    return (jax.random.normal(key, (5,)).at[2].set(0),)


def a_chain(key):
    """Return springs and forces on them."""
    return Springs(), jax.random.normal(key, (4,))


def a_sine(key):
    """Return a function of numpy, its gradient, and numbers."""
    return np.sin, lambda x, y_t: np.cos(x) * y_t, jax.random.normal(key, (5,))
