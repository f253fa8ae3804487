"""What is measured: models of annotated parts, and their inputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tests.benchmarks import models

# A class of the measured modules, by its name in `models`.
Unit = Callable[[str], type[nn.Module]]


@dataclasses.dataclass(frozen=True)
class Part:
    """One annotated module of a model.

    Args:
        name: its name in the model.
        kind: its class's name in `models`.
        width: the last dimension of what it takes.
        fields: its fields, in order.
    """

    name: str
    kind: str
    width: int
    fields: tuple[tuple[str, Any], ...]

    def module(self, unit: Unit, name: str | None = None) -> nn.Module:
        """Make the module."""
        return unit(self.kind)(**dict(self.fields), name=name)


@dataclasses.dataclass(frozen=True)
class Workload:
    """What is computed.

    Args:
        title: the words for it in the tables.
        family: what it is one size of.
        depth: its number of layers, blocks or steps.
        parts: its annotated modules, one after the other.
        shape: the input's shape.
        scanned: whether its one part runs over the leading axis of the input.
    """

    title: str
    family: str
    depth: int
    parts: tuple[Part, ...]
    shape: tuple[int, ...]
    scanned: bool = False

    def model(self, unit: Unit) -> nn.Module:
        """The model, with its parts' classes as `unit` has them."""
        return Scanned(unit, self.parts[0]) if self.scanned else Chain(unit, self.parts)

    def carry(self) -> Any:
        """What a scan begins with."""
        return jnp.zeros(self.shape[1:])


class Chain(nn.Module):
    """Parts, one after the other."""

    unit: Unit
    parts: tuple[Part, ...]

    @nn.compact
    def __call__(self, x: Any) -> Any:
        for part in self.parts:
            x = part.module(self.unit, part.name)(x)
        return x


class Scanned(nn.Module):
    """A part that runs over the leading axis of the input."""

    unit: Unit
    part: Part

    @nn.compact
    def __call__(self, x: Any) -> Any:
        def scanned(kind: str) -> Any:
            shared: dict[str, Any] = {"variable_broadcast": "params"}
            return nn.scan(self.unit(kind), **shared, split_rngs={"params": False})

        carry = jnp.zeros(x.shape[1:])
        return self.part.module(scanned, self.part.name)(carry, x)[1]


@lru_cache(maxsize=1)
def inputs(workload: Workload) -> tuple[Any, Any, Any]:
    """Parameters, the other collections, and an input."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=workload.shape), jnp.float32)
    shapes = jax.eval_shape(workload.model(plain).init, jax.random.key(0), x)
    state = dict(jax.tree_util.tree_map_with_path(partial(_value, rng), shapes))
    return state.pop("params"), state, x


def _value(rng: np.random.Generator, path: Any, leaf: Any) -> Any:
    """A value for a variable such that the values in a deep stack neither vanish nor explode."""
    if path[-1].key == "kernel":
        size = (2 / np.prod(leaf.shape[:-1])) ** 0.5
        return jnp.asarray(size * rng.normal(size=leaf.shape), leaf.dtype)
    filled = 1 if path[-1].key in ("scale", "var") else 0
    return jnp.full(leaf.shape, filled, leaf.dtype)


def plain(kind: str) -> type[nn.Module]:
    """The class as it stands in the source."""
    return getattr(models, kind)


EQUAL, DIFFERING, TRANSFORMER, RESNET, RNN = (
    "equal layers",
    "differing layers",
    "transformer",
    "ResNet with BatchNorm",
    "scanned RNN",
)


def equal(depth: int, width: int = 256) -> Workload:
    """A stack of dense layers, all alike."""
    fields = (("features", width),)
    parts = tuple(Part(f"layer_{index}", "Layer", width, fields) for index in range(depth))
    title = "1 layer" if depth == 1 else f"{depth} {EQUAL}"
    return Workload(title, EQUAL, depth, parts, (64, width))


def differing(depth: int, width: int = 256) -> Workload:
    """A stack of dense layers, each with another slope below zero."""

    def part(index: int) -> Part:
        fields = (("features", width), ("slope", (index + 1) / (depth + 1)))
        return Part(f"layer_{index}", "Sloped", width, fields)

    parts = tuple(map(part, range(depth)))
    return Workload(f"{depth} {DIFFERING}", DIFFERING, depth, parts, (64, width))


def transformer(blocks: int, length: int = 32, width: int = 64) -> Workload:
    """Causal self-attention and an MLP in turn, each with a rule."""
    kinds = [("attention", "Attention", ("heads", 4)), ("mlp", "Mlp", ("factor", 4))]
    parts = tuple(
        Part(f"{name}_{index}", kind, width, (field,))
        for index in range(blocks)
        for name, kind, field in kinds
    )
    title = f"{TRANSFORMER}, {_blocks(blocks)}"
    return Workload(title, TRANSFORMER, blocks, parts, (4, length, width))


def resnet(blocks: int, size: int = 16, width: int = 16) -> Workload:
    """Residual blocks in three stages, each with a rule; their BatchNorms are training."""
    parts: list[Part] = []
    taken, stages = 3, [index * 3 // blocks for index in range(blocks)]
    for index, stage in enumerate(stages):
        features, stride = width * 2**stage, 2 if index and stage > stages[index - 1] else 1
        fields = (("features", features), ("stride", stride))
        parts.append(Part(f"block_{index}", "Residual", taken, fields))
        taken = features
    title = f"{RESNET}, {_blocks(blocks)}"
    return Workload(title, RESNET, blocks, tuple(parts), (8, size, size, 3))


def _blocks(number: int) -> str:
    return f"{number} block{'' if number == 1 else 's'}"


def rnn(steps: int, width: int = 128) -> Workload:
    """A recurrent cell with a rule, under `nn.scan`."""
    part = Part("cell", "Cell", width, (("features", width),))
    title = f"{RNN}, {steps} steps"
    return Workload(title, RNN, steps, (part,), (steps, 16, width), scanned=True)
