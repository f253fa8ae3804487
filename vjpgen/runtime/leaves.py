"""Trees of arguments, split into the arrays that JAX sees and the values that it never does.

A tree is *packed* into its structure and one entry a leaf: an operand (its place among the
arrays given to `jax.custom_vjp`), a constant (kept as the Python object that it is), or a
reference to a bound module. Unpacking puts other arrays and modules in their places.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np


@dataclasses.dataclass(frozen=True)
class Operand:
    """A leaf that is the operand with this index."""

    index: int


@dataclasses.dataclass(frozen=True, eq=False)
class Constant:
    """A leaf that is never traced."""

    value: Any


@dataclasses.dataclass(frozen=True)
class Bound:
    """A leaf that is the bound module, scope or variable with this index."""

    index: int


Entry = Operand | Constant | Bound


class Indexed(Protocol):
    """What gives a value for an index: a sequence, or a dict of a few."""

    def __getitem__(self, index: int, /) -> Any: ...


class Packed(NamedTuple):
    """A tree without its arrays: its structure and an entry a leaf."""

    structure: Any
    entries: tuple[Entry, ...]


def is_array(value: Any) -> bool:
    """Tell whether JAX traces this leaf: an array, but no Python number, no `numpy.bool_`.

    A Python scalar that is differentiated or mapped has become a JAX array before it gets here,
    so keeping the others as they are keeps `if train:` and `range(n)` as they were.
    """
    if isinstance(value, jax.Array):
        return True
    if isinstance(value, (np.ndarray, np.generic)):
        if value.dtype.kind in "OSUMm" or isinstance(value, np.bool_):
            return False
        return value.dtype.type is not np.void  # a record, or float0, which only stands for zeros
    return False


def is_differentiable(value: Any) -> bool:
    """Tell whether an array has tangents of its own dtype: floats and complex numbers have.

    So have dtypes that extend JAX's, as that of fp8 states in `flax.linen.fp8_ops`; keys do not.
    """
    dtype = value.dtype
    if jax.numpy.issubdtype(dtype, np.inexact):
        return True
    return is_extended(value) and not jax.numpy.issubdtype(dtype, jax.dtypes.prng_key)


def is_extended(value: Any) -> bool:
    """Tell whether an array's dtype extends JAX's, so that not every operation takes it."""
    return jax.numpy.issubdtype(value.dtype, jax.dtypes.extended)


@dataclasses.dataclass
class Operands:
    """The arrays that become arguments of `jax.custom_vjp`, each with the words that name it."""

    arrays: list[Any] = dataclasses.field(default_factory=list)
    labels: list[str] = dataclasses.field(default_factory=list)

    def add(self, array: Any, label: str) -> Operand:
        """Append one array."""
        self.arrays.append(array)
        self.labels.append(label)
        return Operand(len(self.arrays) - 1)


def path_text(path: Sequence[Any]) -> str:
    """Write a key path as people do: `params.Dense_0.kernel`, `[0]`."""
    text = ""
    for key in path:
        if isinstance(key, jax.tree_util.SequenceKey):
            text += f"[{key.idx}]"
        elif isinstance(key, jax.tree_util.FlattenedIndexKey):
            text += f"[{key.key}]"
        else:
            name = getattr(key, "name", getattr(key, "key", key))
            text += f".{name}" if text else str(name)
    return text


def below(label: str, words: str) -> str:
    """Name what stands in a tree: the words for the tree, then those of `path_text`."""
    joint = "" if not label or not words or words.startswith("[") else "."
    return f"{label}{joint}{words}"


def flatten(tree: Any) -> tuple[list[tuple[Any, Any]], Any]:
    """Flatten with paths; a dict whose keys have no order, which JAX cannot flatten, is a leaf."""
    try:
        return jax.tree_util.tree_flatten_with_path(tree)
    except (TypeError, ValueError):
        return jax.tree_util.tree_flatten_with_path(tree, is_leaf=_has_no_order)


def _has_no_order(node: Any) -> bool:
    if not isinstance(node, dict):
        return False
    try:
        sorted(node)
    except TypeError:
        return True
    return False


def pack(
    tree: Any, operands: Operands, label: str, bind: Callable[[Any], Bound | None] | None = None
) -> Packed:
    """Pack `tree`; its arrays are appended to `operands`.

    Args:
        tree: any pytree.
        operands: where the arrays go.
        label: words for the tree, which the labels of its arrays begin with.
        bind: tells for a leaf whether it is a bound module and which; None where none can be.
    """
    leaves, structure = flatten(tree)
    entries: list[Entry] = []
    for path, leaf in leaves:
        if is_array(leaf):
            entries.append(operands.add(leaf, below(label, path_text(path))))
        elif bind is not None and (bound := bind(leaf)) is not None:
            entries.append(bound)
        else:
            entries.append(Constant(leaf))
    return Packed(structure, tuple(entries))


def unpack(
    packed: Packed,
    arrays: Indexed,
    bound: Callable[[int], Any] | None = None,
    revive: Callable[[Any], Any] | None = None,
) -> Any:
    """Rebuild a packed tree.

    Args:
        packed: the tree.
        arrays: its operands.
        bound: gives the module with an index.
        revive: gives a constant anew, around values that it has captured.
    """
    leaves = []
    for entry in packed.entries:
        if isinstance(entry, Operand):
            leaves.append(arrays[entry.index])
        elif isinstance(entry, Constant):
            leaves.append(entry.value if revive is None else revive(entry.value))
        else:
            assert bound is not None
            leaves.append(bound(entry.index))
    return jax.tree_util.tree_unflatten(packed.structure, leaves)


def sealed_constants(packed: Packed, sealed: Callable[[Any], Any]) -> Packed:
    """Return a packed tree with what `sealed` gives for each constant."""
    entries = [
        Constant(sealed(entry.value)) if isinstance(entry, Constant) else entry
        for entry in packed.entries
    ]
    return Packed(packed.structure, tuple(entries))
