"""Modules whose traces depend on more than their operands."""

from __future__ import annotations

import types
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

SCALE = 2.0
TABLE = {"scale": 2.0}
SEEN = []
settings = types.SimpleNamespace(scale=2.0)


def same(vjp_fn, y_t):
    return vjp_fn(y_t)


def doubled(vjp_fn, y_t):
    params_t, *rest = vjp_fn(y_t)
    return (jax.tree.map(lambda t: 2 * t, params_t), *rest)


class Dense(nn.Module):
    features: int = 3
    slope: Any = 1.0
    act: Any = jnp.tanh
    dtype: Any = None
    precision: Any = None

    # custom-vjp: bwd=doubled
    @nn.compact
    def __call__(self, x):
        y = nn.Dense(self.features, dtype=self.dtype, precision=self.precision)(x)
        return self.act(self.slope * y)


class Dropping(nn.Module):
    rate: float = 0.4

    # custom-vjp: bwd=same
    @nn.compact
    def __call__(self, x, train=True):
        x = nn.Dense(3)(nn.Dropout(self.rate, deterministic=not train)(x))
        return nn.Dropout(self.rate, deterministic=not train)(x)


class Drawing(nn.Module):
    draws: int = 9

    # custom-vjp: bwd=same
    @nn.compact
    def __call__(self, x):
        for _ in range(self.draws):
            x = x * jax.random.normal(self.make_rng("noise"), x.shape)
        return x


class Around(nn.Module):
    # custom-vjp: bwd=same
    @nn.compact
    def __call__(self, x):
        return Dropping()(x) + Dropping(0.1)(x)


class Remat(nn.Module):
    # custom-vjp: bwd=same
    @nn.compact
    def __call__(self, x):
        return nn.remat(Around)()(x)


class Norm(nn.Module):
    # custom-vjp: bwd=same
    @nn.compact
    def __call__(self, x, train=True):
        return nn.BatchNorm(use_running_average=not train, momentum=0.5)(x)


class Global(nn.Module):
    # custom-vjp: bwd=same
    @nn.compact
    def __call__(self, x):
        return SCALE * TABLE["scale"] * settings.scale * nn.Dense(3)(x)


class Attribute(nn.Module):
    scale = 2.0
    options: Any = None

    # custom-vjp: bwd=same
    @nn.compact
    def __call__(self, x):
        extra = 1.0 if self.options is None else self.options.scale
        return self.scale * extra * nn.Dense(3)(x)


def scaled_bwd(vjp_fn, y_t):
    params_t, x_t = vjp_fn(y_t)
    return params_t, SCALE * x_t


class RuleReads(nn.Module):
    # custom-vjp: bwd=scaled_bwd
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x)


class Named(nn.Module):
    # custom-vjp: bwd=same
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x) * (1.0 + len(self.name)) + float(self.path[-1][-1])


class Branching(nn.Module):
    # custom-vjp: bwd=same
    @nn.compact
    def __call__(self, x):
        y = nn.Dense(3)(x)
        return y if jnp.sum(y) > 0 else -y


class Recording(nn.Module):
    # custom-vjp: bwd=same
    @nn.compact
    def __call__(self, x):
        SEEN.append(x.shape)
        return nn.Dense(3)(x)


class Toggling(nn.Module):
    # custom-vjp: bwd=same
    @nn.compact
    def __call__(self, x):
        TABLE["scale"] = 5.0 - TABLE["scale"]
        return TABLE["scale"] * nn.Dense(3)(x)


class Closing(nn.Module):
    rates: Any = (0.5, 2.0)

    @nn.compact
    def __call__(self, x):
        for rate in self.rates:
            mask = x > 0.5

            # custom-vjp: fwd=forward, bwd=backward
            def layer(module, x, rate=rate, mask=mask):
                return jnp.where(mask, rate * nn.Dense(3)(x), x)

            def forward(module, x, rate, mask):
                return nn.vjp(lambda m, x: layer(m, x, rate, mask), module, x)

            def backward(vjp_fn, y_t):
                params_t, x_t = vjp_fn(y_t)
                return params_t, rate * x_t, None, None  # noqa: B023

            x = layer(self, x)
        return x


class Stack(nn.Module):
    layers: Any

    @nn.compact
    def __call__(self, x, **options):
        for index, make in enumerate(self.layers):
            x = make(name=f"layer_{index}")(x, **options)
        return x
