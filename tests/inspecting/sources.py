"""Rules whose residuals are known by arithmetic."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp


def batch(key):
    return (jax.random.normal(key, (8, 16)),)


def recompute_fwd(x):
    return jnp.sin(x), x


def recompute_bwd(x, y_t):
    return (jnp.cos(x) * y_t,)


# custom-vjp: fwd=recompute_fwd, bwd=recompute_bwd, example=batch
def recomputed(x):
    return jnp.sin(x)


def mask_fwd(x):
    return masked(x), x > 0


def mask_bwd(mask, y_t):
    return (jnp.where(mask, y_t, 0),)


# custom-vjp: fwd=mask_fwd, bwd=mask_bwd, example=batch
def masked(x):
    return x * (x > 0)


def hoard_fwd(x):
    y = jnp.sin(x)
    return y, (x, y, jnp.cos(x), jnp.zeros_like(x))


def hoard_bwd(residuals, y_t):
    x, y, cos, zeros = residuals
    return (cos * y_t + 0 * (x + y) + zeros,)


# custom-vjp: fwd=hoard_fwd, bwd=hoard_bwd, example=batch
def hoarded(x):
    return jnp.sin(x)


def power_fwd(x, weights, degree):
    return power(x, weights, degree), (x, weights)


def power_bwd(weights, degree, residuals, y_t):
    x, weights = residuals
    return (degree * x ** (degree - 1) * weights * y_t,)


def powers():
    x = jnp.ones((4, 4))
    return [(x, jnp.ones(4), 2), ({"left": x, "right": x}["left"], jnp.ones((4, 4)), 3)]


# custom-vjp: fwd=power_fwd, bwd=power_bwd, nondiff_argnames=(weights, degree), example=powers
def power(x, weights, degree):
    return weights * x**degree


@jax.jit
def wave(x):
    return jnp.sin(x)


def same_bwd(vjp_fn, y_t):
    return vjp_fn(y_t)


# custom-vjp: bwd=same_bwd, example=batch
def waves(x):
    y = wave(x)
    z = wave(y)
    return y + z


# custom-vjp: bwd=same_bwd, example=batch
def looped(x):
    def body(carry, _):
        return jnp.tanh(carry), None

    return jax.lax.scan(body, x, length=5)[0]


class Stateful(nn.Module):
    """Draws, and updates one collection; another one stays as it is."""

    # custom-vjp: bwd=same_bwd, missing=zero, example=make
    @nn.compact
    def __call__(self, x, train: bool):
        fixed = self.variable("fixed", "scale", lambda: jnp.ones(8)).value
        x = nn.Dense(8, name="inner")(x) * fixed
        x = nn.BatchNorm(use_running_average=not train)(x)
        return nn.Dropout(0.5, deterministic=not train)(x)

    @staticmethod
    def make():
        return Stateful(), jnp.ones((4, 3)), True


class Nested(nn.Module):
    @nn.compact
    def __call__(self, x):
        # custom-vjp: fwd=fwd, bwd=bwd, example=nested_example
        def f(dense, x):
            return jnp.sin(dense(x))

        def fwd(dense, x):
            y, vjp_fn = nn.vjp(f, dense, x)
            return y, vjp_fn

        def bwd(vjp_fn, y_t):
            return vjp_fn(2 * y_t)

        return f(nn.Dense(8), x)


def nested_example():
    return Nested(), jnp.ones((4, 3))


class Two(nn.Module):
    """Two rules, and one without an example."""

    features: int = 3

    # custom-vjp: bwd=same_bwd
    def first(self, x):
        return 2 * x

    # custom-vjp: bwd=same_bwd, example=second_example
    def second(self, x):
        return 3 * x


def second_example():
    raise ValueError("no data here")
