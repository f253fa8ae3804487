"""vjp functions as pytrees, so that they can be residuals."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.custom_derivatives import SymbolicZero

from vjpgen.runtime.errors import TangentError
from vjpgen.runtime.leaves import Operand, is_differentiable
from vjpgen.runtime.outcomes import Outcome
from vjpgen.runtime.tangents import Slot, fill, instantiate, mesh_mismatch, number, type_text, zeros


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass(frozen=True, eq=False)
class Pullback:
    """A vjp function over flat operands.

    Args:
        function: what `jax.vjp` returned.
        chosen: the operands that it differentiates.
        types: shape and dtype of each cotangent.
    """

    function: Any
    chosen: tuple[int, ...]
    types: tuple[Any, ...]

    def __call__(self, cotangents: Sequence[Any]) -> dict[int, Any]:
        """Return the tangents by operand."""
        (tangents,) = self.function(
            tuple(_cotangent(c, t) for c, t in zip(cotangents, self.types, strict=True))
        )
        return dict(zip(self.chosen, tangents, strict=True))

    def tree_flatten(self) -> Any:
        return (self.function,), (self.chosen, self.types)

    @classmethod
    def tree_unflatten(cls, meta: Any, children: Any) -> Pullback:
        return cls(children[0], *meta)


def _cotangent(value: Any, kind: Any) -> Any:
    if not is_differentiable(kind):
        return np.zeros(kind.shape, jax.dtypes.float0)
    if value is None or getattr(value, "dtype", None) == jax.dtypes.float0:
        return zeros(kind)
    if isinstance(value, (int, float, complex)):
        return number(value, kind)
    return instantiate(value)


@dataclasses.dataclass(frozen=True, eq=False)
class VjpSpec:
    """How flat tangents become those of the slots.

    Args:
        title: the rule's name and place, for errors.
        slots: the tangent slots.
        types: shape and dtype of each operand.
        outcome: the run that the vjp function belongs to.
    """

    title: str
    slots: Sequence[Slot]
    types: Sequence[Any]
    outcome: Outcome


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass(frozen=True, eq=False)
class VjpFunction:
    """The vjp function of the default forward rule: a pytree, so that it can be a residual.

    Called with the output's cotangent it returns one tangent a slot: the module's is a dict of
    collections, as from `flax.linen.vjp`.
    """

    pullback: Pullback
    spec: VjpSpec

    def __call__(self, cotangent: Any) -> tuple[Any, ...]:
        """Return `(variable_tangents, *input_tangents)` for the output's cotangent."""
        spec = self.spec
        flat = _flat_cotangents(spec, cotangent)
        flat += [None] * (len(self.pullback.types) - len(flat))
        tangents = self.pullback(flat)
        return tuple(fill(spec.slots, tangents, spec.types))

    def tree_flatten(self) -> Any:
        return (self.pullback,), self.spec

    @classmethod
    def tree_unflatten(cls, spec: Any, children: Any) -> VjpFunction:
        return cls(children[0], spec)


def _flat_cotangents(spec: VjpSpec, cotangent: Any) -> list[Any]:
    """Flatten the output's cotangent; None stands for a subtree of zeros."""
    outcome = spec.outcome
    if cotangent is None:
        return [None] * outcome.width
    try:
        leaves = outcome.output.structure.flatten_up_to(cotangent)
    except ValueError:
        raise TangentError(
            f"{spec.title}: the vjp function was called with {type_text(cotangent)}, which has "
            "another structure than the function's output"
        ) from None
    flat = [
        leaf
        for leaf, entry in zip(leaves, outcome.output.entries, strict=True)
        if isinstance(entry, Operand)
    ]
    for leaf, kind, label in zip(flat, outcome.types, outcome.labels, strict=False):
        if misfit := _misfit(leaf, kind):
            raise TangentError(
                f"{spec.title}: the vjp function was called with a cotangent that does not fit "
                f"the function's output:\n  {label}: {misfit}"
            )
    return flat


def _misfit(cotangent: Any, kind: Any) -> str:
    """Say what a cotangent of an output of this type has of its own; "" where it fits."""
    if cotangent is None or not is_differentiable(kind):
        return ""
    wrong = f"expected {type_text(kind)}, not {type_text(cotangent)}"
    if isinstance(cotangent, (int, float, complex)):
        return "" if kind.shape == () else wrong
    value = getattr(cotangent, "aval", cotangent)
    found = getattr(value, "shape", None), getattr(value, "dtype", None)
    if found[1] == jax.dtypes.float0 or isinstance(cotangent, SymbolicZero):
        return "" if found == (kind.shape, kind.dtype) or found[1] == jax.dtypes.float0 else wrong
    return mesh_mismatch(kind, cotangent) if found == (kind.shape, kind.dtype) else wrong
