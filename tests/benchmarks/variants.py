"""One loss, written in five ways: what is measured side by side."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import vjpgen
from tests.benchmarks import models
from vjpgen.compiler import Options, compile_source

PLAIN, FLAX, HAND, GENERATED, DROP_IN = VARIANTS = (
    "plain autodiff",
    "nn.custom_vjp",
    "hand-lifted",
    "generated",
    "vjpgen.custom_vjp",
)
Loss = Callable[[Any, Any], Any]


@dataclasses.dataclass(frozen=True)
class Workload:
    """What is computed.

    Args:
        kind: the layer: a class of `models`.
        body: what the layer computes.
        depth: the number of equal layers.
        shape: the input's shape; the last is the layers' width.
    """

    kind: str
    body: Callable[..., Any]
    depth: int
    shape: tuple[int, ...]

    @property
    def title(self) -> str:
        """The words for it in the table."""
        return f"{self.depth} {self.kind.lower()}{'' if self.depth == 1 else 's'}"


def layers(depth: int) -> Workload:
    """A stack of dense layers."""
    return Workload("Layer", models.dense, depth, (64, 256))


def blocks(depth: int) -> Workload:
    """A stack of transformer-like blocks."""
    return Workload("Block", models.transformer, depth, (4, 64, 128))


class Stack(nn.Module):
    """Equal layers, one after the other."""

    layer: Callable[..., nn.Module]
    depth: int

    @nn.compact
    def __call__(self, x):
        for index in range(self.depth):
            x = self.layer(name=f"layer_{index}")(x)
        return x


def generated_models() -> ModuleType:
    """Compile `models` and import the module generated from it."""
    source = Path(models.__file__)
    result = compile_source(source.read_bytes(), source.name, options=Options(source.name))
    assert result.output is not None, result.diagnostics
    name = "vjpgen_benchmark_models_vjp"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{name}.py")
        path.write_bytes(result.output)
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return module


def losses(workload: Workload, generated: ModuleType) -> dict[str, Loss]:
    """The workload's loss in each variant, all over the same parameters."""
    kind, depth, width = workload.kind, workload.depth, workload.shape[-1]

    def stacked(layer: Callable[..., nn.Module]) -> Loss:
        return _loss(Stack(partial(layer, width), depth).apply)

    return {
        PLAIN: stacked(getattr(models, kind)),
        FLAX: stacked(_lifted(workload.body, nn.custom_vjp)),
        HAND: _loss(_hand_lifted(getattr(models, kind)(width), depth)),
        GENERATED: stacked(getattr(generated, kind)),
        DROP_IN: stacked(_lifted(workload.body, vjpgen.custom_vjp)),
    }


def inputs(workload: Workload) -> tuple[Any, Any]:
    """Parameters and an input."""
    keys = jax.random.split(jax.random.key(0))
    x = jax.random.normal(keys[0], workload.shape)
    layer = partial(getattr(models, workload.kind), workload.shape[-1])
    return jax.jit(Stack(layer, workload.depth).init)(keys[1], x), x


def assert_same_gradients(found: dict[str, Loss], params: Any, x: Any) -> None:
    """Fail where the gradient of a variant is not plain autodiff's."""
    expected = jax.jit(jax.grad(found[PLAIN]))(params, x)
    for name, loss in found.items():
        gradient = jax.jit(jax.grad(loss))(params, x)
        jax.tree.map(
            partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6, err_msg=name),
            gradient,
            expected,
        )


def _loss(apply: Callable[[Any, Any], Any]) -> Loss:
    return lambda params, x: jnp.mean(apply(params, x) ** 2)


def _lifted(body: Callable[..., Any], lift: Callable[..., Any]) -> type[nn.Module]:
    """A layer with its rule in the call, as Flax documents it."""

    def forward(module, x):
        return nn.vjp(body, module, x)

    class Lifted(nn.Module):
        features: int

        @nn.compact
        def __call__(self, x):
            return lift(body, forward, models.same)(self, x)

    return Lifted


def _hand_lifted(layer: nn.Module, depth: int) -> Callable[[Any, Any], Any]:
    """A stack over explicit variables with `jax.custom_vjp`."""

    def primal(params, x):
        return layer.apply({"params": params}, x)

    function = jax.custom_vjp(primal)
    function.defvjp(lambda params, x: jax.vjp(primal, params, x), models.same)

    def apply(variables, x):
        for index in range(depth):
            x = function(variables["params"][f"layer_{index}"], x)
        return x

    return apply
