"""The measured modules in NNX, with the parameters of the Linen ones under the same names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from tests.benchmarks.workloads import Part


class Layer(nnx.Module):
    """As `models.Layer`."""

    def __init__(self, width: int, features: int, *, rngs: nnx.Rngs):
        self.Dense_0 = nnx.Linear(width, features, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return nnx.relu(self.Dense_0(x))


class Sloped(nnx.Module):
    """As `models.Sloped`."""

    def __init__(self, width: int, features: int, slope: float, *, rngs: nnx.Rngs):
        self.slope = slope
        self.Dense_0 = nnx.Linear(width, features, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return nnx.leaky_relu(self.Dense_0(x), self.slope)


class Attention(nnx.Module):
    """As `models.Attention`."""

    def __init__(self, width: int, heads: int, *, rngs: nnx.Rngs):
        self.heads = heads
        self.LayerNorm_0 = nnx.LayerNorm(width, rngs=rngs)
        self.Dense_0 = nnx.Linear(width, 3 * width, rngs=rngs)
        self.Dense_1 = nnx.Linear(width, width, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        *lead, length, width = x.shape
        projected = self.Dense_0(self.LayerNorm_0(x))
        split = projected.reshape(*lead, length, 3, self.heads, width // self.heads)
        query, key, value = (split[..., index, :, :] for index in range(3))
        scores = jnp.einsum("...qhd,...khd->...hqk", query, key) / (width // self.heads) ** 0.5
        causal = jnp.tril(jnp.ones((length, length), bool))
        weights = nnx.softmax(jnp.where(causal, scores, -1e9))
        mixed = jnp.einsum("...hqk,...khd->...qhd", weights, value)
        return x + self.Dense_1(mixed.reshape(x.shape))


class Mlp(nnx.Module):
    """As `models.Mlp`."""

    def __init__(self, width: int, factor: int, *, rngs: nnx.Rngs):
        self.LayerNorm_0 = nnx.LayerNorm(width, rngs=rngs)
        self.Dense_0 = nnx.Linear(width, factor * width, rngs=rngs)
        self.Dense_1 = nnx.Linear(factor * width, width, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return x + self.Dense_1(nnx.gelu(self.Dense_0(self.LayerNorm_0(x))))


class Residual(nnx.Module):
    """As `models.Residual`."""

    def __init__(self, width: int, features: int, stride: int, *, rngs: nnx.Rngs):
        strides = (stride, stride)
        self.Conv_0 = nnx.Conv(width, features, (3, 3), strides, use_bias=False, rngs=rngs)
        self.BatchNorm_0 = nnx.BatchNorm(features, use_running_average=False, rngs=rngs)
        self.Conv_1 = nnx.Conv(features, features, (3, 3), use_bias=False, rngs=rngs)
        self.BatchNorm_1 = nnx.BatchNorm(features, use_running_average=False, rngs=rngs)
        if stride > 1 or width != features:
            self.Conv_2 = nnx.Conv(width, features, (1, 1), strides, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        y = nnx.relu(self.BatchNorm_0(self.Conv_0(x)))
        y = self.BatchNorm_1(self.Conv_1(y))
        return nnx.relu((x if x.shape == y.shape else self.Conv_2(x)) + y)


class Cell(nnx.Module):
    """As `models.Cell`."""

    def __init__(self, width: int, features: int, *, rngs: nnx.Rngs):
        self.Dense_0 = nnx.Linear(features, features, rngs=rngs)
        self.Dense_1 = nnx.Linear(width, features, rngs=rngs)

    def __call__(self, carry: Any, x: Any) -> Any:
        carry = jnp.tanh(self.Dense_0(carry) + self.Dense_1(x))
        return carry, carry


class Parts(nnx.Module):
    """The modules of a workload, under their names."""

    def __init__(self, parts: Iterable[Part]):
        for part in parts:
            made = globals()[part.kind](part.width, **dict(part.fields), rngs=nnx.Rngs(0))
            setattr(self, part.name, made)


def renewed(state: Any) -> Any:
    """The same values in new variables: NNX refuses those of an outer trace."""
    return jax.tree.map(lambda value: value, state)


PARAMS = nnx.DiffState(0, nnx.Param)


@nnx.custom_vjp(nondiff_argnums=(PARAMS,))
def with_rule(module: Any, *args: Any) -> Any:
    """Call a module with its rule: the vjp function itself."""
    return module(*args)


def _forward(module: Any, *args: Any) -> Any:
    definition, params, others = nnx.split(module, nnx.Param, ...)

    def run(params: Any, *args: Any) -> Any:
        merged = nnx.merge(definition, params, renewed(others))
        output = merged(*args)
        return output, nnx.split(merged, nnx.Param, ...)[2]

    output, vjp_fn, others = jax.vjp(run, params, *args, has_aux=True)
    nnx.update(module, others)
    return output, vjp_fn


def _backward(vjp_fn: Any, tangents: Any) -> Any:
    _, output_t = tangents
    return vjp_fn(output_t)


with_rule.defvjp(_forward, _backward)
