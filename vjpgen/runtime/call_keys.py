"""What the trace of a call depends on besides its operands, as one key.

Calls with equal keys have equal traces: same rule, same classes with equal fields, same structure
of arguments and variables, equal values of everything that Python code reads. What can't be
compared by value raises `Incomparable`.
"""

from __future__ import annotations

import functools
from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from flax import config
from flax.linen import module as linen_module
from flax.linen.module import Module

from vjpgen.runtime.closures import StandIn
from vjpgen.runtime.fingerprints import fingerprint
from vjpgen.runtime.keys import Incomparable, Key
from vjpgen.runtime.leaves import Bound, Constant, Operand, Packed
from vjpgen.runtime.modules import BoundEntry, name_place
from vjpgen.runtime.recursion import flags_below
from vjpgen.runtime.scopes import FrozenSkeleton, SplitScope

if TYPE_CHECKING:
    from vjpgen.runtime.splitting import Split

# Attributes that tell equal modules apart by where they stand.
_PLACE = frozenset({"name", "path", "scope", "debug_path", "path_text", "_state", "*"})
_PLAIN = (bool, int, str, bytes, type(None))


class PythonState(NamedTuple):
    """The key of what Python code that a trace runs can read.

    Args:
        functions: of the primal, the forward and the backward rule.
        classes: of the modules' classes.
    """

    functions: Key
    classes: tuple[Key, ...]

    @property
    def is_placed(self) -> bool:
        """Whether the code that runs reads where a module stands: its name, its path."""
        keys = (self.functions, *self.classes)
        if any("parent" in key.mentions for key in keys):
            raise Incomparable("code reads a module's parent")
        return any(key.mentions & _PLACE for key in keys)


def key_of(split: Split, state: PythonState) -> Hashable:
    """Return the key of a call.

    Args:
        split: the call.
        state: its `python_state`.

    Raises:
        Incomparable: the trace may depend on something that has no key.
    """
    modules = split.modules
    placed = state.is_placed
    return (
        split.rule.static_key,
        split.symbolic_zeros,
        split.form,
        state,
        tuple(map(_packed, split.packed_slots)),
        tuple(
            _module(entry, not placed and index == split.first_module)
            for index, entry in enumerate(modules.entries)
        ),
        tuple(modules.places),
        tuple(_root(root, placed) for root in modules.roots),
        split.outer_key,
        split.context.rules,
        tuple(split.types),
        _flax_state(),
    )


def python_state(split: Split) -> PythonState:
    """Return the key of what Python code that a trace runs can read.

    Raises:
        Incomparable: it reads something that has no key.
    """
    classes = (entry.make for entry in split.modules.entries if _is_class(entry.make))
    functions = fingerprint(split.functions, _leaf)
    return PythonState(functions, tuple(fingerprint(found, _leaf) for found in classes))


def _is_class(make: Any) -> bool:
    return isinstance(make, type)


def _flax_state() -> Hashable:
    options = config._values  # pyright: ignore[reportPrivateUsage]
    return linen_module._use_named_call, tuple(options.values())


def _leaf(value: Any) -> Hashable | None:
    """Give the key of what only the runtime knows."""
    if isinstance(value, StandIn):
        return "stand-in", value.index, value.is_module
    if isinstance(value, Module) and "scope" not in vars(value):  # its plain fields alone
        fields = tuple((name, fingerprint(field)) for name, field in sorted(vars(value).items()))
        return fingerprint(type(value)), fields
    return None


def _packed(packed: Packed) -> Hashable:
    return _structure(packed.structure), tuple(map(_entry, packed.entries))


def _entry(entry: Operand | Constant | Bound) -> Hashable:
    if isinstance(entry, Operand):
        return entry.index
    if isinstance(entry, Bound):
        return "bound", entry.index
    return _constant(entry.value)


def _constant(value: Any) -> Hashable:
    kind = type(value)
    return (kind, value) if kind in _PLAIN else (None, fingerprint(value, _leaf))


def _structure(structure: Any) -> Hashable:
    """Return the key of a tree's structure; what custom nodes say of themselves counts, too."""
    try:
        static = _static_parts(structure)
    except TypeError:
        raise Incomparable("a pytree's structure has no hash") from None
    if not static:
        return structure
    return structure, tuple(fingerprint(part, _leaf) for part in static)


@functools.lru_cache(maxsize=1024)
def _static_parts(structure: Any) -> tuple[Any, ...]:
    return tuple(_walk(structure))


def _walk(structure: Any) -> Iterator[Any]:
    data = structure.node_data()
    if data is not None and data[0] not in (tuple, list, dict, type(None)):
        yield data[1]
    for child in structure.children():
        yield from _walk(child)


def _module(entry: BoundEntry, nameless: bool) -> Hashable:
    """Return the key of what is bound; of a `nameless` module, all but its name."""
    if entry.attributes is None:
        return entry.variable
    entries = list(map(_entry, entry.attributes.entries))
    if nameless:
        place = name_place(entry.attributes.structure)
        if place is not None:
            entries[place] = "name"
    state = entry.state
    return (
        entry.make,
        _structure(entry.attributes.structure),
        tuple(entries),
        entry.has_set_up,
        state.in_compact_method,
        state.in_setup,
        state.setup_called,
        state.is_initialized,
        tuple(sorted(state.autoname_cursor.items())),
    )


def _root(root: SplitScope, placed: bool) -> Hashable:
    return (
        (root.name, root.path, root.debug_path) if placed else None,
        _constant(root.mutable),
        flags_below(root.flags, root.path),
        _skeleton(root.variables),
        tuple(root.origin.suffixes),
        _counters(root.counters),
    )


def _skeleton(tree: Any) -> Hashable:
    if isinstance(tree, dict):
        items = tuple((key, _skeleton(value)) for key, value in tree.items())
        return (type(tree) is FrozenSkeleton, items)
    return _packed(tree)


def _counters(counters: Any) -> Hashable:
    return tuple(
        (name, _counters(value) if isinstance(value, dict) else value)
        for name, value in counters.items()
    )
