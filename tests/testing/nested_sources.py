"""Rules of functions that are nested in others."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp


def numbers(key):
    return (jax.random.normal(key, (3,)),)


def layer(key):
    return Layer(), jax.random.normal(key, (3, 2))


def outer(x):
    total = jnp.sum(x)

    def fwd(x, power):
        return f(x, power), (x, power)

    def bwd(power, residuals, y_t):
        x, power = residuals
        return (total * power * x ** (power - 1) * y_t,)

    # custom-vjp: fwd=fwd, bwd=bwd, nondiff_argnames=power, exact=x, example=numbers
    def f(x, power):
        return total * x**power

    return f(x, power=2) + f(3 * x, 2)


class Layer(nn.Module):
    @nn.compact
    def __call__(self, x):
        scale = self.param("scale", nn.initializers.constant(2.0), ())

        def bwd(vjp_fn, y_t):
            dense_t, x_t = vjp_fn(y_t)
            return dense_t, 2 * x_t

        # custom-vjp: bwd=bwd, exact=params, surrogate=x, example=layer
        def f(dense, x):
            return nn.Dropout(0.5, deterministic=False)(dense(x)) * scale

        return f(nn.Dense(2), nn.tanh(x))

    @nn.compact
    def on_itself(self, x):
        def bwd(vjp_fn, y_t):
            return vjp_fn(y_t)

        # custom-vjp: bwd=bwd, exact=True, example=layer
        def f(mdl, x):
            return nn.Dense(2, name="inner")(x)

        return f(self, x)


def scanned(x):
    def bwd(vjp_fn, y_t):
        return vjp_fn(y_t)

    # custom-vjp: bwd=bwd, example=numbers
    def f(x):
        return x * x

    return jax.lax.scan(lambda x, _: (f(x), None), x, None, length=2)[0]


def never(x):
    def bwd(vjp_fn, y_t):
        return vjp_fn(y_t)

    # custom-vjp: bwd=bwd, example=numbers
    def f(x):
        return x * x

    return x if x.size else f(x)


def in_a_tree(modules, x):
    def bwd(vjp_fn, y_t):
        return vjp_fn(y_t)

    # custom-vjp: bwd=bwd, example=two_layers
    def f(modules, x):
        return modules[1](modules[0](x))

    return f(modules, x)


def two_layers(key):
    return [nn.Dense(2), nn.Dense(3)], jax.random.normal(key, (3, 2))
