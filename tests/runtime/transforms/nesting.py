"""Transforms as functions from a step to a step, so that any of them nests in any other.

A step takes `(params, stats, key, x)` and returns an output of the shape of `x` and new stats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, PartitionSpec

Step = Callable[[Any, Any, Any, Any], tuple[Any, Any]]


def of_module(module: Any) -> Step:
    """Make a step of a module's `apply`."""

    def step(params: Any, stats: Any, key: Any, x: Any) -> tuple[Any, Any]:
        variables = {"params": params, "stats": stats}
        y, updates = module.apply(variables, x, rngs={"noise": key}, mutable=["stats"])
        return y, updates["stats"]

    return step


def _vmap(step: Step) -> Step:
    def mapped(params: Any, stats: Any, key: Any, x: Any) -> tuple[Any, Any]:
        batched = jax.vmap(step, (None, 0, 0, 0))
        both = jax.tree.map(lambda s: jnp.stack([s, 2 * s]), stats)
        out = batched(params, both, jax.random.split(key), jnp.stack([x, -x]))
        return jax.tree.map(lambda leaf: leaf.mean(0), out)

    return mapped


def _grad(step: Step) -> Step:
    def derived(params: Any, stats: Any, key: Any, x: Any) -> tuple[Any, Any]:
        def loss(x: Any) -> tuple[Any, Any]:
            y, new = step(params, stats, key, x)
            return jnp.sin(y).sum(), new

        return jax.grad(loss, has_aux=True)(x)

    return derived


def _scan(step: Step) -> Step:
    def scanned(params: Any, stats: Any, key: Any, x: Any) -> tuple[Any, Any]:
        def turn(carry: Any, key: Any) -> tuple[Any, Any]:
            return step(params, carry[1], key, carry[0]), None

        return lax.scan(turn, (x, stats), jax.random.split(key))[0]

    return scanned


def _fori_loop(step: Step) -> Step:
    def looped(params: Any, stats: Any, key: Any, x: Any) -> tuple[Any, Any]:
        def turn(i: Any, carry: Any) -> Any:
            return step(params, carry[1], jax.random.fold_in(key, i), carry[0])

        return lax.fori_loop(0, 2, turn, (x, stats))

    return looped


def _cond(step: Step) -> Step:
    def chosen(params: Any, stats: Any, key: Any, x: Any) -> tuple[Any, Any]:
        def other(params: Any, stats: Any, key: Any, x: Any) -> tuple[Any, Any]:
            y, new = step(params, stats, key, 2 * x)
            return -y, new

        return lax.cond(x.sum() > 0, step, other, params, stats, key, x)

    return chosen


def _switch(step: Step) -> Step:
    def chosen(params: Any, stats: Any, key: Any, x: Any) -> tuple[Any, Any]:
        branches = [
            lambda *operands: step(*operands),
            lambda params, stats, key, x: (x, stats),
            lambda params, stats, key, x: step(params, stats, key, -x),
        ]
        return lax.switch(jnp.int32(x.sum() > 0) * 2, branches, params, stats, key, x)

    return chosen


def _shard_map(step: Step) -> Step:
    """Rows of x and of the stats differ from device to device, params do not."""
    one, rows = PartitionSpec(), PartitionSpec("i")

    def local(params: Any, stats: Any, key: Any, x: Any) -> tuple[Any, Any]:
        y, new = step(params, stats, key, x)
        return y + 0.1 * lax.pmean(y, "i"), new

    mesh = Mesh(jax.devices()[:1], ("i",))
    return jax.shard_map(local, mesh=mesh, in_specs=(one, rows, one, rows), out_specs=rows)


def _custom_vjp(step: Step) -> Step:
    """Put a `jax.custom_vjp` around the step whose rule triples the tangent of x."""
    outer = jax.custom_vjp(step)

    def forward(params: Any, stats: Any, key: Any, x: Any) -> tuple[Any, Any]:
        return jax.vjp(lambda params, x: step(params, stats, key, x), params, x)

    def backward(vjp_fn: Any, tangents: Any) -> Any:
        params_t, x_t = vjp_fn(tangents)
        return params_t, None, None, 3 * x_t

    outer.defvjp(forward, backward)
    return outer


def _vjp(step: Step) -> Step:
    def derived(params: Any, stats: Any, key: Any, x: Any) -> tuple[Any, Any]:
        y, vjp_fn, new = jax.vjp(lambda x: step(params, stats, key, x), x, has_aux=True)
        return y + vjp_fn(y)[0], new

    return derived


def _jacrev(step: Step) -> Step:
    def derived(params: Any, stats: Any, key: Any, x: Any) -> tuple[Any, Any]:
        jacobian, new = jax.jacrev(
            lambda x: (lambda y, s: (y.sum(axis=0), s))(*step(params, stats, key, x)), has_aux=True
        )(x)
        return jnp.einsum("iab,ab->ab", jacobian, x), new

    return derived


def _linearize(step: Step) -> Step:
    """Transpose the linearized function: what `jax.vjp` does, by hand."""

    def derived(params: Any, stats: Any, key: Any, x: Any) -> tuple[Any, Any]:
        y, linear, new = jax.linearize(lambda x: step(params, stats, key, x), x, has_aux=True)
        return y + jax.linear_transpose(linear, x)(y)[0], new

    return derived


TRANSFORMS: Mapping[str, Callable[[Step], Step]] = {
    "jit": jax.jit,
    "vmap": _vmap,
    "grad": _grad,
    "checkpoint": jax.checkpoint,
    "scan": _scan,
    "fori_loop": _fori_loop,
    "cond": _cond,
    "switch": _switch,
    "shard_map": _shard_map,
    "custom_vjp": _custom_vjp,
    "vjp": _vjp,
    "jacrev": _jacrev,
    "linearize": _linearize,
}


def derive(steps: Mapping[str, Step], key: Any) -> Callable[[Any, Any, Any], Any]:
    """Return a jitted function of `(params, stats, x)` that derives every step, in one program.

    Hardly optimized: compiling is most of what such a test costs.
    """

    def value(step: Step) -> Callable[..., Any]:
        def loss(params: Any, stats: Any, x: Any) -> tuple[Any, Any]:
            y, new = step(params, stats, key, x)
            total = (y**2).sum() + sum((leaf**2).sum() for leaf in jax.tree.leaves(new))
            return total, (y, new)

        return jax.value_and_grad(loss, (0, 1, 2), has_aux=True)

    def every(params: Mapping[str, Any], stats: Mapping[str, Any], x: Any) -> Any:
        return {name: value(step)(params[name], stats[name], x) for name, step in steps.items()}

    return jax.jit(every, compiler_options={"xla_backend_optimization_level": 0})
