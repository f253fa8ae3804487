"""Variables of a function that are bound anew after the call of one with a rule."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp


def number(x):
    k = 2.0

    def bwd(vjp_fn, t):
        return vjp_fn(t * k)

    # custom-vjp: bwd=bwd
    def f(x):
        return jnp.sin(x) * k

    y = f(x)
    k = x.sum() * 3.0
    return (y * k).sum()


def array(x):
    k = jnp.array(2.0)

    def bwd(vjp_fn, t):
        return vjp_fn(t * k)

    # custom-vjp: bwd=bwd
    def f(x):
        return jnp.sin(x) * k

    y = f(x)
    k = 3.0
    return (y * k).sum()


def several(x):
    factors, names = (2.0, 1.0), None

    def bwd(vjp_fn, t):
        return vjp_fn(t * factors[0] if names is None else t)  # noqa: F821

    # custom-vjp: bwd=bwd
    def f(x):
        return jnp.sin(x)

    y = f(x)
    factors = y
    del names
    return y.sum()


def helper(x):
    factors = iter((2.0, 5.0))

    def make():
        factor = next(factors)
        return lambda t: t * factor

    scale = make()

    def bwd(vjp_fn, t):
        return vjp_fn(scale(t))

    # custom-vjp: bwd=bwd
    def f(x):
        return scale(jnp.sin(x))

    y = f(x)
    scale = make()
    return y.sum()


def unrolled(x):
    state = 0.0
    for _ in range(3):

        def bwd(vjp_fn, t):
            return vjp_fn(t * (state + 1))  # noqa: B023

        # custom-vjp: bwd=bwd
        def f(x):
            return jnp.sin(x) + state  # noqa: B023

        y = f(x)
        state = jax.lax.stop_gradient(y)
    return y.sum()


class Layers(nn.Module):
    @nn.compact
    def __call__(self, x):
        n = 1

        def bwd(vjp_fn, t):
            return vjp_fn(t * n)

        # custom-vjp: bwd=bwd
        def f(mdl, x):
            return mdl(x) * n

        x = f(nn.Dense(2), x)
        n = 4
        return f(nn.Dense(2), x)
