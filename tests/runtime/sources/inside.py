"""Annotated functions that are called inside their own rules, in every way that there is."""

from __future__ import annotations

import enum
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

import vjpgen


def twice(vjp_fn, y_t):
    return jax.tree.map(lambda t: 2 * t, vjp_fn(y_t))


# custom-vjp: fwd=wave_fwd, bwd=wave_bwd
def wave(x):
    return jnp.sin(x)


def wave_fwd(x):
    outputs = [
        wave(x),
        jax.jit(wave)(x),
        jitted_before(x),
        jax.checkpoint(wave)(x),
        jax.vmap(wave)(x),
        jax.lax.map(wave, x),
        jax.lax.cond(True, wave, wave, x),
        functools.partial(wave)(x),
        other(x),
    ]
    return sum(outputs) / len(outputs), x


def wave_bwd(x, y_t):
    (x_t,) = jax.vjp(wave, x)[1](y_t)
    (also_t,) = jax.vjp(jitted_before, x)[1](y_t)
    return (2 * x_t + 3 * also_t,)


jitted_before = jax.jit(lambda x: wave(x))


# custom-vjp: fwd=other_fwd, bwd=other_bwd
def other(x):
    return wave(x)


def other_fwd(x):
    return jax.vjp(wave, x)


def other_bwd(pull, y_t):
    return (3 * pull(y_t)[0],)


class Ways(nn.Module):
    """Calls itself in its forward rule; its parameters' and input's tangents are doubled."""

    way: str

    # custom-vjp: fwd=forward, bwd=twice
    @nn.compact
    def __call__(self, x):
        return jnp.tanh(nn.Dense(3, name="dense")(x))

    def alias(self, x):
        return self(x)

    def forward(self, x):
        return nn.vjp(getattr(self, f"by_{self.way}"), self, x)

    @staticmethod
    def by_call(mdl, x):
        return mdl(x)

    @staticmethod
    def by_name(mdl, x):
        return Ways.__call__(mdl, x)

    @staticmethod
    def by_method(mdl, x):
        return mdl.alias(x)

    @staticmethod
    def by_primal(mdl, x):
        return vjpgen.primal(mdl.__call__)(x)

    @staticmethod
    def by_jit(mdl, x):
        return nn.jit(lambda m, x: m(x))(mdl, x)

    @staticmethod
    def by_remat(mdl, x):
        return nn.remat(Ways.__call__)(mdl, x)

    @staticmethod
    def by_cond(mdl, x):
        call = lambda m, x: m(x)  # noqa: E731
        return nn.cond(True, call, call, mdl, x)

    @staticmethod
    def by_scan(mdl, x):
        step = lambda m, x, _: (m(x), None)  # noqa: E731
        split = {"params": False}
        scanned = nn.scan(step, variable_broadcast="params", split_rngs=split, length=1)
        return scanned(mdl, x, None)[0]

    @staticmethod
    def by_vmap(mdl, x):
        axes, split = {"params": None}, {"params": False}
        return nn.vmap(lambda m, x: m(x), variable_axes=axes, split_rngs=split)(mdl, x)

    @staticmethod
    def by_map_variables(mdl, x):
        return nn.map_variables(lambda m, x: m(x), "params")(mdl, x)


class Two(nn.Module):
    """Two of them, one after the other."""

    way: str

    @nn.compact
    def __call__(self, x):
        return Ways(self.way, name="second")(Ways(self.way, name="first")(x))


class Chain(nn.Module):
    """Hands another module of its class on to its own forward rule: that one keeps its rule."""

    # custom-vjp: fwd=forward, bwd=twice
    @nn.compact
    def __call__(self, x, then):
        x = nn.Dense(3)(x)
        return x if then is None else then(x, None)

    def forward(self, x, then):
        return vjpgen.vjp(lambda m, x, then: m(x, then), self, x, then)


class Chained(nn.Module):
    @nn.compact
    def __call__(self, x):
        return Chain(name="first")(x, Chain(name="second"))


class Colour(enum.Enum):
    RED = 1


# custom-vjp: fwd=static_fwd, bwd=static_bwd
def static(x, n, flag, name, colour, dtype, kind, op, none, factor):
    seen = [type(value) for value in (n, flag, name, colour, factor)]
    assert seen == [int, bool, str, Colour, float]
    for _ in range(n):
        x = op(x).astype(dtype) * factor
    return x


def static_fwd(x, *rest):
    return static(x, *rest), (x, rest, b"bytes", {"deep": [rest[0], "text"]})


def static_bwd(residuals, y_t):
    x, rest, data, deep = residuals
    n, flag, name, colour, dtype, kind, _, none, _ = rest
    assert (flag, name, colour, data) == (True, "name", Colour.RED, b"bytes")
    assert (dtype, kind, none, deep) == (jnp.float32, dict, None, {"deep": [n, "text"]})
    (x_t,) = jax.vjp(lambda x: static(x, *rest), x)[1](y_t)
    nothing: Any = (None,) * len(rest)
    return (5 * x_t, *nothing)
