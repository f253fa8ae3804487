"""What a run made, without its arrays; what a forward run leaves for the backward run."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from vjpgen.runtime.leaves import Packed, is_differentiable
from vjpgen.runtime.modules import bound_scope
from vjpgen.runtime.snapshots import Snapshot


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """What a run made, without its arrays.

    Args:
        output: the function's output, packed; its operands count the run's flat outputs.
        variables: for each root scope its mutable collections, packed likewise.
        width: the number of flat outputs that belong to `output`.
        labels: for each flat output the words that name it.
        types: shape and dtype of each flat output.
        unchanged: flat outputs that are an operand as it came in.
        keys: for each flat output what tells it from the others of its run.
        counters: rng counters of the root scopes after the run.
        states: Flax's ephemeral state of each module after the run.
    """

    output: Packed
    variables: list[Any]
    width: int
    labels: list[str]
    types: list[Any]
    unchanged: dict[int, int]
    keys: list[Any]
    counters: list[Any]
    states: list[Any]

    @property
    def updates(self) -> list[int]:
        """The places of the variables that have changed and JAX can differentiate."""
        return [
            place
            for place in range(self.width, len(self.types))
            if place not in self.unchanged and is_differentiable(self.types[place])
        ]


def type_of(array: Any) -> Any:
    """Return an array's JAX type: shape, dtype and what mesh axes it varies over, not the array."""
    return jax.typeof(array)


@dataclasses.dataclass
class Made:
    """Where a run leaves its outcome, for whom asks after the run."""

    outcome: Outcome | None = None

    def get(self) -> Outcome:
        """Return the outcome."""
        assert self.outcome is not None, "the run has not returned its outputs"
        return self.outcome


@dataclasses.dataclass(frozen=True, eq=False)
class SavedMeta:
    """The plain part of `Saved`.

    Args:
        residuals: what the forward rule returned, packed.
        places: for each operand that is kept its place among the arrays.
        snapshot: the module, for a backward rule that is a method.
        everything: the primal's vjp function over all operands, where autodiff fills in.
        everything_keys: the keys of what that function takes cotangents of.
        made: the forward run's outcome.
        size: the number of arrays.
    """

    residuals: Packed
    places: dict[int, int]
    snapshot: Packed | None
    everything: Packed | None
    everything_keys: list[Any]
    made: Made
    size: int

    def __eq__(self, other: object) -> bool:
        # JAX may trace the forward run more than once and wants equal structures: runs of one
        # split that save equally many arrays are.
        return isinstance(other, SavedMeta) and self.size == other.size

    def __hash__(self) -> int:
        return hash(self.size)


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass(frozen=True, eq=False)
class Saved:
    """What a forward run leaves for the backward run."""

    arrays: tuple[Any, ...]
    meta: SavedMeta

    def tree_flatten(self) -> Any:
        return self.arrays, self.meta

    @classmethod
    def tree_unflatten(cls, meta: Any, children: Any) -> Saved:
        return cls(tuple(children), meta)


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass(frozen=True, eq=False)
class SnapshotLeaf:
    """A module, variable or scope among the residuals."""

    snapshot: Snapshot

    def tree_flatten(self) -> Any:
        return (self.snapshot,), None

    @classmethod
    def tree_unflatten(cls, _: Any, children: Any) -> SnapshotLeaf:
        return cls(children[0])


def with_snapshots(residuals: Any) -> Any:
    """Replace bound modules, variables and scopes among the residuals by snapshots.

    The backward run opens them.
    """

    def leaf(value: Any) -> Any:
        if bound_scope(value) is not None:
            return SnapshotLeaf(Snapshot.take(value))
        return value

    return jax.tree_util.tree_map(leaf, residuals)


def with_modules(residuals: Any) -> Any:
    """Undo `with_snapshots`: open the snapshots among the residuals."""
    return jax.tree_util.tree_map(
        lambda x: x.snapshot.module() if isinstance(x, SnapshotLeaf) else x,
        residuals,
        is_leaf=lambda x: isinstance(x, SnapshotLeaf),
    )
