"""Captured values that Python uses, and rules that capture tracers of transforms around them."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

REGISTRY: dict[int, Any] = {}


class Hiding:
    """A callable that keeps its function where nobody finds it."""

    def __init__(self, f):
        REGISTRY[id(self)] = f

    def __call__(self, *args):
        return REGISTRY[id(self)](*args)


def identity(vjp_fn, y_t):
    return vjp_fn(y_t)


def python_values(x, n: int, train: bool, mode: str, table: np.ndarray, flag):
    """Each decides something in Python, under `jit` too."""
    steps = list(range(n))

    def backward(vjp_fn, y_t):
        return vjp_fn(y_t * (2.0 if mode == "double" else 1.0) * len(steps))

    # custom-vjp: bwd=backward
    def f(x):
        for step in steps:
            x = jnp.sin(x) + table[step]
        if train and flag:
            x = x * 2
        return x

    return f(x)


def keys(x, key):
    # custom-vjp: bwd=identity
    def f(x):
        return x * jax.random.normal(key, x.shape)

    return f(x)


def late(x, scales):
    """A closure sees what a variable holds at the time of the call."""
    total = 0.0
    for scale in scales:

        def backward(vjp_fn, y_t):
            return vjp_fn(y_t * scale)  # noqa: B023

        # custom-vjp: bwd=backward, missing=autodiff
        def f(x):
            return x * scale  # noqa: B023

        scale = 2 * scale
        total = total + f(x)
    return total


def strict(x, w):
    params = {"gain": jnp.sin(w), "bias": [jnp.cos(w)]}

    # custom-vjp: bwd=identity
    def f(x):
        return x * params["gain"] + params["bias"][0]

    return f(x)


def erring(x, w):
    gain = jnp.sin(w)

    # custom-vjp: bwd=identity, missing=error
    def f(x):
        return x * gain

    return f(x)


def zeroed(x, w):
    gain = jnp.sin(w)

    # custom-vjp: bwd=identity, missing=zero
    def f(x):
        return x * gain

    return f(x)


def filled(x, w):
    """Two and three functions deep, by all three parts of the rule."""
    gain = jnp.sin(w)

    def middle(x):
        offset = jnp.cos(w) * gain

        def inner(x):
            def forward(x):
                y, pullback = jax.vjp(f, x)
                return y, (pullback, gain)

            def backward(residuals, y_t):
                pullback, _ = residuals
                return pullback(y_t * gain * offset)

            # custom-vjp: fwd=forward, bwd=backward, missing=autodiff
            def f(x):
                return jnp.tanh(x * gain + offset * w)

            return f(x)

        return inner(x)

    return middle(x)


def clipped(x, limit):
    """Its backward rule alone captures `limit`."""

    def backward(vjp_fn, y_t):
        return vjp_fn(y_t.clip(-limit, limit))

    # custom-vjp: bwd=backward
    def f(x):
        return 3.0 * x

    return f(x)


def hidden(x, w):
    """Two callables that cannot be opened, each around a function that captures `gain`."""
    gain = jnp.sin(w)

    def times(z):
        return z * gain

    call = Hiding(times)
    back = Hiding(lambda z: z * gain)

    def backward(vjp_fn, y_t):
        return vjp_fn(back(times(y_t)))

    # custom-vjp: bwd=backward, missing=autodiff
    def f(x):
        return call(x)

    return f(x)


def hidden_primal(x, w):
    gain = jnp.sin(w)

    # custom-vjp: bwd=identity, missing=autodiff
    @Hiding
    def f(x):
        return x * gain

    return f(x)


def scaled_by(gain):
    def decorate(f):
        @functools.wraps(f)
        def scaled(x):
            return gain * f(x)

        return scaled

    return decorate


def decorated(x, w):
    """A lifted function with a decorator around it, which has its attributes, too."""

    # custom-vjp: bwd=identity, missing=autodiff
    def inner(x):
        return jnp.sin(x)

    scaled = scaled_by(jnp.sin(w))(inner)

    # custom-vjp: bwd=identity, missing=autodiff
    def f(x):
        return scaled(x) * 2

    return f(x)


def nested_rules(x, w):
    """A rule in a rule, the inner function behind a callable that cannot be opened."""
    gain = jnp.sin(w)

    # custom-vjp: bwd=identity, missing=autodiff
    def outer(x):
        # custom-vjp: bwd=identity, missing=autodiff
        @Hiding
        def inner(x):
            return jnp.sin(x) * gain

        return inner(x) * gain

    return outer(x)
