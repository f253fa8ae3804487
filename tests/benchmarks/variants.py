"""One loss, written in several ways: what is measured side by side."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import importlib.util
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import vjpgen
from tests.benchmarks import models
from tests.benchmarks.workloads import Unit, Workload, inputs, plain
from vjpgen.compiler import Options, compile_source

PLAIN, FLAX, JITTED, NNX, HAND, GENERATED, UNSHARED, DROP_IN = (
    "plain autodiff",
    "nn.custom_vjp",
    "nn.jit(nn.custom_vjp)",
    "nnx.custom_vjp",
    "hand-lifted",
    "generated",
    "generated, sharing off",
    "vjpgen.custom_vjp",
)
Loss = Callable[[Any, Any, Any], Any]


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A workload in one variant.

    Args:
        loss: of parameters, the other collections, and the input; returns a number and the
            updated collections.
        params: the parameters, as the variant holds them.
        state: the other collections, as the variant holds them.
        x: the input.
        as_dicts: turns gradients and updated collections into Linen's dicts.
    """

    loss: Loss
    params: Any
    state: Any
    x: Any
    as_dicts: Callable[[Any, Any], tuple[Any, Any]] = lambda gradients, updated: (
        gradients,
        updated,
    )

    @property
    def arguments(self) -> tuple[Any, Any, Any]:
        """What the loss takes."""
        return self.params, self.state, self.x

    def gradient(self) -> Callable[..., Any]:
        """A function that JAX has never seen: the gradient, and the updated collections."""
        return jax.grad(lambda *arguments: self.loss(*arguments), has_aux=True)

    def comparable(self, found: Any) -> Any:
        """What a gradient function gave, as Linen's dicts of NumPy arrays."""
        return jax.tree.map(np.asarray, self.as_dicts(*found))


def variants() -> list[str]:
    """The variants, in the tables' order."""
    makers = _makers()
    return [name for name in makers if name != UNSHARED or _sharing() is not None]


def around(variant: str) -> contextlib.AbstractContextManager[Any]:
    """What a variant is traced and run in."""
    sharing = _sharing()
    if variant == UNSHARED and sharing is not None:
        return sharing.disabled()
    return contextlib.nullcontext()


def clear_caches() -> None:
    """Forget every trace: JAX's, those of `nn.jit` and NNX among them, and vjpgen's."""
    jax.clear_caches()
    sharing = _sharing()
    if sharing is not None:
        sharing.clear()


@functools.cache
def _sharing() -> ModuleType | None:
    """The part of the runtime that keeps traces for equal modules, where it has one."""
    name = "vjpgen.runtime.sharing"
    return importlib.import_module(name) if importlib.util.find_spec(name) else None


@functools.cache
def generated_models() -> ModuleType:
    """Compile `models` and import the module generated from it."""
    name = "vjpgen_benchmark_models_vjp"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{name}.py")
        path.write_bytes(generated_source())
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return module


def generated_source() -> bytes:
    """What vjpgen generates from `models`."""
    source = Path(models.__file__)
    result = compile_source(source.read_bytes(), source.name, options=Options(source.name))
    assert result.output is not None, result.diagnostics
    return result.output


def candidate(variant: str, workload: Workload) -> Candidate:
    """Write a workload in one variant."""
    return _makers()[variant](workload)


def _makers() -> dict[str, Callable[[Workload], Candidate]]:
    return {
        PLAIN: functools.partial(_linen, plain),
        FLAX: functools.partial(_linen, functools.partial(_lifted, nn.custom_vjp)),
        JITTED: functools.partial(_linen, _jitted),
        NNX: _nnx,
        HAND: _by_hand,
        GENERATED: functools.partial(_linen, _generated),
        UNSHARED: functools.partial(_linen, _generated),
        DROP_IN: functools.partial(_linen, functools.partial(_lifted, vjpgen.custom_vjp)),
    }


def _generated(kind: str) -> type[nn.Module]:
    return getattr(generated_models(), kind)


@functools.cache
def _lifted(lift: Callable[..., Any], kind: str) -> type[nn.Module]:
    """A module with its rule in the call, as Flax documents it."""
    source = plain(kind)
    body = {
        "Layer": models.dense,
        "Sloped": models.sloped,
        "Attention": models.attention,
        "Mlp": models.mlp,
        "Residual": models.residual,
        "Cell": models.cell,
    }[kind]

    def forward(module: Any, *args: Any) -> Any:
        return nn.vjp(body, module, *args)

    @nn.compact
    def call(self: Any, *args: Any) -> Any:
        return lift(body, forward, models.same)(self, *args)

    members = {"__annotations__": dict(source.__annotations__), "__call__": call}
    return type(kind, (nn.Module,), {**members, "__module__": __name__})


@functools.cache
def _jitted(kind: str) -> type[nn.Module]:
    return nn.jit(_lifted(nn.custom_vjp, kind))


def _linen(unit: Unit, workload: Workload) -> Candidate:
    params, state, x = inputs(workload)
    model = workload.model(unit)

    def loss(params: Any, state: Any, x: Any) -> Any:
        variables = {"params": params, **state}
        if not state:
            return _mean_square(model.apply(variables, x)), {}
        y, updated = model.apply(variables, x, mutable=list(state))
        return _mean_square(y), updated

    return Candidate(loss, params, state, x)


def _by_hand(workload: Workload) -> Candidate:
    """The workload over explicit variables with `jax.custom_vjp`."""
    params, state, x = inputs(workload)
    functions = [_explicit(part.kind, part.fields) for part in workload.parts]

    def scanned(params: Any, state: Any, x: Any) -> Any:
        def step(carry: Any, x: Any) -> Any:
            return functions[0](params[workload.parts[0].name], carry, x)

        return _mean_square(jax.lax.scan(step, workload.carry(), x)[1]), {}

    def chain(params: Any, state: Any, x: Any) -> Any:
        for part, function in zip(workload.parts, functions, strict=True):
            x = function(params[part.name], x)
        return _mean_square(x), {}

    def chain_with_state(params: Any, state: Any, x: Any) -> Any:
        updated: dict[str, Any] = {name: {} for name in state}
        for part, function in zip(workload.parts, functions, strict=True):
            own = {name: collection[part.name] for name, collection in state.items()}
            x, new = function(params[part.name], own, x)
            for name, collection in new.items():
                updated[name][part.name] = collection
        return _mean_square(x), updated

    if workload.scanned:
        return Candidate(scanned, params, state, x)
    if state:
        functions = [_explicit_with_state(part.kind, part.fields) for part in workload.parts]
        return Candidate(chain_with_state, params, state, x)
    return Candidate(chain, params, state, x)


@functools.cache
def _explicit(kind: str, fields: tuple[tuple[str, Any], ...]) -> Callable[..., Any]:
    """A module without state, as a function of its parameters with a rule."""
    module = plain(kind)(**dict(fields))

    def primal(params: Any, *args: Any) -> Any:
        return module.apply({"params": params}, *args)

    function = jax.custom_vjp(primal)
    function.defvjp(lambda params, *args: jax.vjp(primal, params, *args), models.same)
    return function


@functools.cache
def _explicit_with_state(kind: str, fields: tuple[tuple[str, Any], ...]) -> Callable[..., Any]:
    """A module with state, as a function of all its collections with a rule."""
    module = plain(kind)(**dict(fields))

    def primal(params: Any, state: Any, *args: Any) -> Any:
        return module.apply({"params": params, **state}, *args, mutable=list(state))

    def forward(params: Any, state: Any, *args: Any) -> Any:
        def run(params: Any, *args: Any) -> Any:
            return primal(params, state, *args)

        output, vjp_fn, updated = jax.vjp(run, params, *args, has_aux=True)
        return (output, updated), vjp_fn

    def backward(vjp_fn: Any, tangents: Any) -> Any:
        params_t, *args_t = vjp_fn(tangents[0])
        return params_t, None, *args_t

    function = jax.custom_vjp(primal)
    function.defvjp(forward, backward)
    return function


def _nnx(workload: Workload) -> Candidate:
    """The workload in NNX, with its functional interface, over the same parameters."""
    from flax import nnx

    from tests.benchmarks import nnx_models

    params, state, x = inputs(workload)
    made = nnx.eval_shape(lambda: nnx_models.Parts(workload.parts))
    definition, own_params, own_state = nnx.split(made, nnx.Param, ...)
    nnx.replace_by_pure_dict(own_params, params)
    nnx.replace_by_pure_dict(own_state, state.get("batch_stats", {}))

    def loss(params: Any, state: Any, x: Any) -> Any:
        model = nnx.merge(definition, params, nnx_models.renewed(state))
        if workload.scanned:
            x = _nnx_scan(getattr(model, workload.parts[0].name), workload.carry(), x)
        else:
            for part in workload.parts:
                x = nnx_models.with_rule(getattr(model, part.name), x)
        return _mean_square(x), nnx.split(model, nnx.Param, ...)[2]

    def as_dicts(gradients: Any, updated: Any) -> tuple[Any, Any]:
        collections = {name: nnx.to_pure_dict(updated) for name in state}
        return nnx.to_pure_dict(gradients), collections

    return Candidate(loss, own_params, own_state, x, as_dicts)


def _nnx_scan(cell: Any, carry: Any, x: Any) -> Any:
    from flax import nnx

    from tests.benchmarks import nnx_models

    axes = {"in_axes": (None, nnx.Carry, 0), "out_axes": (nnx.Carry, 0)}
    return nnx.scan(nnx_models.with_rule, **axes)(cell, carry, x)[1]


def _mean_square(y: Any) -> Any:
    return jnp.mean(y**2)
