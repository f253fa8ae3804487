"""A subject's primal, forward pass, backward pass and step, each traced once.

The forward pass is what JAX runs before the backward pass: it returns the outputs, and the arrays
that the vjp function holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from vjpgen.runtime.leaves import is_differentiable
from vjpgen.testing.subjects import Subject


@dataclass(frozen=True, eq=False)
class Traces:
    """The programs of a subject.

    Args:
        types: the shapes and dtypes of the inputs.
        primal: takes the inputs; returns outputs and updates.
        forward: takes the inputs; returns the same, then the residuals.
        backward: takes the residuals, then a cotangent for each differentiable output.
        step: takes the inputs and the cotangents; returns outputs, updates and gradients.
        results: the number of outputs and updates.
        outputs: the number of outputs that have cotangents; they come first.
    """

    types: Sequence[Any]
    primal: Any
    forward: Any
    backward: Any
    step: Any
    results: int
    outputs: int


def trace(subject: Subject) -> Traces:
    """Trace what a subject does with and without differentiation."""
    types = types_of([each.value for each in subject.inputs])
    chosen = [place for place, each in enumerate(subject.inputs) if each.differentiated]
    kept: list[Any] = []

    def primal(*arrays: Any) -> Any:
        return _results(subject, arrays)

    def differentiate(arrays: Sequence[Any]) -> tuple[Any, Any, Any]:
        def function(*values: Any) -> Any:
            full = list(arrays)
            for place, value in zip(chosen, values, strict=True):
                full[place] = value
            return _results(subject, full)

        return jax.vjp(function, *(arrays[place] for place in chosen), has_aux=True)

    def forward(*arrays: Any) -> Any:
        outputs, vjp_fn, others = differentiate(arrays)
        residuals, structure = jax.tree_util.tree_flatten(vjp_fn)
        kept.append(structure)
        return outputs, others, residuals

    def backward(residuals: Any, cotangents: Any) -> Any:
        return jax.tree_util.tree_unflatten(kept[-1], residuals)(cotangents)

    def step(arrays: Any, cotangents: Any) -> Any:
        outputs, vjp_fn, others = differentiate(arrays)
        return outputs, others, vjp_fn(cotangents)

    traced = _traced(forward, *types)
    outputs, others, residuals = traced.out_info
    residuals, cotangents = types_of(residuals), types_of(outputs)
    return Traces(
        types,
        _traced(primal, *types),
        traced,
        _traced(backward, residuals, tuple(cotangents)),
        _traced(step, types, tuple(cotangents)),
        len(outputs) + len(others),
        len(outputs),
    )


def _results(subject: Subject, arrays: Sequence[Any]) -> tuple[tuple[Any, ...], list[Any]]:
    """Return the differentiable outputs, and the other ones with the updates."""
    output, updates = subject.call(arrays)
    leaves = [leaf for leaf in jax.tree_util.tree_leaves(output) if hasattr(leaf, "dtype")]
    outputs = tuple(leaf for leaf in leaves if is_differentiable(leaf))
    others = [leaf for leaf in leaves if not is_differentiable(leaf)]
    return outputs, [*others, *jax.tree_util.tree_leaves(updates)]


def _traced(function: Callable[..., Any], *arguments: Any) -> Any:
    return jax.jit(function).trace(*arguments)


def types_of(values: Sequence[Any]) -> list[Any]:
    """Return the shapes and dtypes of arrays as JAX takes them."""
    return jax.eval_shape(lambda arrays: arrays, list(values))
