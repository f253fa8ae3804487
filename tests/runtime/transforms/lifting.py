"""Flax's transforms as functions from a module class to a module class, to nest at will.

Each module takes `x` and returns an array of its shape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

RNGS = {"params": True, "noise": True}


def _vmap(cls: Any) -> Any:
    class Mapped(nn.Module):
        @nn.compact
        def __call__(self, x):
            each = nn.vmap(
                cls,
                variable_axes={"params": None, "stats": 0},
                split_rngs={"params": False, "noise": True},
            )
            return each(name="each")(jnp.stack([x, -x])).mean(0)

    return Mapped


def _body(cls: Any) -> Any:
    class Body(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            return cls(name="cell")(x), None

    return Body


def _scan(cls: Any) -> Any:
    class Scanned(nn.Module):
        @nn.compact
        def __call__(self, x):
            layers = nn.scan(
                _body(cls), variable_axes={"params": 0, "stats": 0}, split_rngs=RNGS, length=2
            )
            return layers(name="layers")(x, None)[0]

    return Scanned


def _recurrent(cls: Any) -> Any:
    class Recurrent(nn.Module):
        @nn.compact
        def __call__(self, x):
            if self.is_initializing():
                return _body(cls)(name="steps")(x, None)[0]
            steps = nn.scan(
                _body(cls),
                variable_broadcast="params",
                variable_carry="stats",
                split_rngs={"params": False, "noise": True},
                length=2,
            )
            return steps(name="steps")(x, None)[0]

    return Recurrent


def _remat_scan(cls: Any) -> Any:
    class Deep(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.remat_scan(cls, lengths=(1, 2))(name="deep")(x)

    return Deep


def _map_variables(cls: Any) -> Any:
    class Doubled(nn.Module):
        @nn.compact
        def __call__(self, x):
            new = self.is_initializing()
            doubled = nn.map_variables(
                cls,
                "params",
                lambda tree: jax.tree.map(lambda p: 2 * p, tree),
                init=new,
                mutable=new,
            )
            return doubled(name="cell")(x)

    return Doubled


def _cond(cls: Any) -> Any:
    class Chosen(nn.Module):
        @nn.compact
        def __call__(self, x):
            cell = cls(name="cell")
            if self.is_initializing():
                return cell(x)
            return nn.cond(x.sum() > 0, lambda m, x: m(x), lambda m, x: -m(2 * x), cell, x)

    return Chosen


def _switch(cls: Any) -> Any:
    class Chosen(nn.Module):
        @nn.compact
        def __call__(self, x):
            cell = cls(name="cell")
            if self.is_initializing():
                return cell(x)
            branches = [lambda m, x: x, lambda m, x: m(x), lambda m, x: m(-x)]
            return nn.switch(jnp.int32(x.sum() > 0) + 1, branches, cell, x)

    return Chosen


def _vjp(cls: Any) -> Any:
    class Derived(nn.Module):
        @nn.compact
        def __call__(self, x):
            cell = cls(name="cell")
            if self.is_initializing():
                return cell(x)
            y, vjp_fn = nn.vjp(lambda m, x: m(x), cell, x)
            params_t, x_t = vjp_fn(y)
            return y + x_t + 0.1 * sum(t.sum() for t in jax.tree.leaves(params_t))

    return Derived


TRANSFORMS: Mapping[str, Callable[[Any], Any]] = {
    "nn.jit": nn.jit,
    "nn.remat": nn.remat,
    "nn.vmap": _vmap,
    "nn.scan": _scan,
    "nn.scan, shared": _recurrent,
    "nn.remat_scan": _remat_scan,
    "nn.map_variables": _map_variables,
    "nn.cond": _cond,
    "nn.switch": _switch,
    "nn.vjp": _vjp,
}
