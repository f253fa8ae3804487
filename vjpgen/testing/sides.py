"""A function of arrays with its rule, and the same without: how each is differentiated."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vjpgen.runtime.leaves import is_differentiable, is_extended
from vjpgen.testing.subjects import Input

Arrays = Sequence[Any]
Results = tuple[tuple[Any, ...], list[Any]]
_HASTY = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_allow_excess_precision": False,
}


@dataclasses.dataclass(frozen=True, eq=False)
class Side:
    """A function of arrays, differentiated with respect to some of them.

    Args:
        call: takes the arrays; returns output and updates, as pytrees.
        chosen: the places of the arrays that are differentiated.
        context: what it runs within.
    """

    call: Callable[[Arrays], tuple[Any, Any]]
    chosen: tuple[int, ...]
    context: Callable[[], Any] = contextlib.nullcontext

    def results(self, arrays: Arrays) -> Results:
        """Return the outputs that have tangents; and the other outputs with the updates."""
        with self.context():
            return _results(self.call(arrays))

    def taken(self, arrays: Arrays) -> list[Any]:
        """Return those of some arrays that are differentiated."""
        return [arrays[place] for place in self.chosen]

    def put(self, arrays: Arrays, values: Arrays) -> list[Any]:
        """Put values in the places that are differentiated."""
        full = list(arrays)
        for place, value in zip(self.chosen, values, strict=True):
            full[place] = value
        return full

    def vjp(self, arrays: Arrays) -> tuple[tuple[Any, ...], Callable[..., Any], list[Any]]:
        """Run forward; return the outputs, what maps their cotangents to gradients, and others."""

        def function(*values: Any) -> Results:
            return _results(self.call(self.put(arrays, values)))

        with self.context():
            outputs, pullback, others = jax.vjp(function, *self.taken(arrays), has_aux=True)

        def pull(cotangents: Sequence[Any]) -> list[Any]:
            with self.context():
                return list(pullback(tuple(cotangents)))

        return outputs, pull, others

    def gradient(self, arrays: Arrays, cotangents: Sequence[Any]) -> list[Any]:
        """Return one gradient for each array that is differentiated."""
        _, pull, _ = self.vjp(arrays)
        return pull(cotangents)

    def step(self, arrays: Arrays, cotangents: Sequence[Any]) -> Step:
        """Run forward and backward."""
        outputs, pull, others = self.vjp(arrays)
        return Step(outputs, others, pull(cotangents))

    def compiled(self, arrays: Arrays, cotangents: Sequence[Any]) -> Compiled:
        """Compile `step`."""
        return self.compile(self.step, list(arrays), tuple(cotangents))

    def compiled_results(self, arrays: Arrays) -> Compiled:
        """Compile `results`."""
        return self.compile(self.results, list(arrays))

    def compile(self, function: Callable[..., Any], *arguments: Any) -> Compiled:
        """Compile a function of this side; without effort, since it is run a few times."""

        def fresh(*given: Any) -> Any:  # JAX knows traces by functions
            return function(*given)

        with self.context():
            traced = jax.jit(fresh).trace(*arguments)
            options: Any = _HASTY if jax.default_backend() == "cpu" else None
            return Compiled(traced.lower().compile(compiler_options=options), traced.jaxpr)


class Step(NamedTuple):
    """What forward and backward pass give.

    Args:
        outputs: the outputs that have tangents.
        others: the other outputs, and the updates.
        gradients: one for each array that is differentiated.
    """

    outputs: tuple[Any, ...]
    others: list[Any]
    gradients: list[Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Compiled:
    """A compiled function.

    Args:
        call: it.
        jaxpr: what was traced.
    """

    call: Callable[..., Any]
    jaxpr: Any


def _results(returned: tuple[Any, Any]) -> Results:
    output, updates = returned
    found = map(_as_array, jax.tree_util.tree_leaves(output))
    leaves = [leaf for leaf in found if hasattr(leaf, "dtype")]
    outputs = tuple(leaf for leaf in leaves if _has_tangent(leaf))
    others = [leaf for leaf in leaves if not _has_tangent(leaf)]
    return outputs, [*others, *jax.tree_util.tree_leaves(updates)]


def _as_array(leaf: Any) -> Any:
    """Return a Python number as the array that it becomes in a rule."""
    return jnp.asarray(leaf) if isinstance(leaf, (bool, int, float, complex)) else leaf


def _has_tangent(leaf: Any) -> bool:
    return is_differentiable(leaf) and not is_extended(leaf)


def chosen(inputs: Sequence[Input]) -> tuple[int, ...]:
    """Return the places of the inputs that are differentiated."""
    return tuple(place for place, each in enumerate(inputs) if each.differentiated)


def raised(value: Any) -> Any:
    """Return an array in double precision, where it is of floating point or complex dtype."""
    if is_extended(value) or not jnp.issubdtype(value.dtype, np.inexact):
        return value
    wide = np.complex128 if jnp.issubdtype(value.dtype, np.complexfloating) else np.float64
    return jnp.asarray(np.asarray(value).astype(wide))


def lowered(value: Any) -> Any:
    """Return an array in single precision, where it is of double precision."""
    if is_extended(value) or not jnp.issubdtype(value.dtype, np.inexact):
        return value
    if jnp.finfo(value.dtype).bits < 64:
        return jnp.asarray(value)
    narrow = np.complex64 if jnp.issubdtype(value.dtype, np.complexfloating) else np.float32
    return jnp.asarray(np.asarray(value).astype(narrow))


def outputs_alone(side: Side, place: int) -> Side:
    """Return the same function with one of its outputs that have tangents alone."""

    def call(arrays: Arrays) -> tuple[Any, Any]:
        outputs, _ = _results(side.call(arrays))
        return outputs[place], {}

    return dataclasses.replace(side, call=call)


def outputs_only(side: Side) -> Callable[..., tuple[Any, ...]]:
    """Return the outputs that have tangents, as a function of the differentiated arrays."""

    def function(arrays: Arrays, values: Arrays) -> tuple[Any, ...]:
        return _results(side.call(side.put(arrays, values)))[0]

    return function
