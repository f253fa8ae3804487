"""What the trace of a call depends on besides its operands, as one key.

Calls with equal keys have equal traces: same rule, same classes with equal fields, same structure
of arguments and variables, equal values of everything that Python code reads. What can't be
compared by value raises `Incomparable`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from flax import config
from flax.linen import module as linen_module

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
# Stands in a key for a value that is part of the call's `PythonState`.
_HELD = "held"


class PythonState(NamedTuple):
    """The key of what Python code that a trace runs can read: one for all, as parts may be shared.

    Args:
        key: of the call's `python_values`.
    """

    key: Key

    @property
    def is_placed(self) -> bool:
        """Whether the code that runs reads where a module stands: its name, its path."""
        if "parent" in self.key.mentions:
            raise Incomparable("code reads a module's parent")
        return bool(self.key.mentions & _PLACE)

    @property
    def tells_traced(self) -> bool:
        """Whether the code may do one thing for a traced array and another for one with values."""
        return self.key.tells_traced


def python_values(split: Split) -> tuple[Any, ...]:
    """Return what a call holds besides arrays and plain values.

    The rule's functions, the classes of the modules, and what is not traced in arguments, fields
    and variables.
    """
    classes = tuple(entry.make for entry in split.modules.entries if _is_class(entry.make))
    constants: list[Any] = []
    for packed in (*split.packed_slots, *split.modules.packed()):
        constants += _static_parts(packed.structure)
        constants += (
            entry.value
            for entry in packed.entries
            if isinstance(entry, Constant) and type(entry.value) not in _PLAIN
        )
    mutable = (root.mutable for root in split.modules.roots)
    constants += (found for found in mutable if type(found) not in _PLAIN)
    return split.functions, classes, tuple(constants)


def python_state(values: tuple[Any, ...]) -> PythonState:
    """Return the key of what Python code that a trace runs can read now.

    Args:
        values: of the call, as `python_values` gives them.

    Raises:
        Incomparable: it reads something that has no key.
    """
    return PythonState(fingerprint(values, _leaf))


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
        _shared_counters(modules.roots),
        split.outer_key,
        split.context.rules,
        tuple(split.types),
        _flax_state(),
    )


def _is_class(make: Any) -> bool:
    return isinstance(make, type)


def _flax_state() -> Hashable:
    options = config._values  # pyright: ignore[reportPrivateUsage]
    return linen_module._use_named_call, tuple(options.values())


def _leaf(value: Any) -> Hashable | None:
    """Give the key of what only the runtime knows."""
    if isinstance(value, StandIn):
        return "stand-in", value.index, value.is_module
    return None


def _packed(packed: Packed) -> Hashable:
    return packed.structure, tuple(map(_entry, packed.entries))


def _entry(entry: Operand | Constant | Bound) -> Hashable:
    if isinstance(entry, Operand):
        return entry.index
    if isinstance(entry, Bound):
        return "bound", entry.index
    return _constant(entry.value)


def _constant(value: Any) -> Hashable:
    kind = type(value)
    return (kind, value) if kind in _PLAIN else _HELD


def _static_parts(structure: Any) -> Iterator[Any]:
    """Yield what the nodes of a tree say of themselves, where their `==` may not tell all."""
    if structure.num_nodes == structure.num_leaves:  # a leaf alone
        return
    kind, static = structure.node_data() or (type(None), None)
    if kind is dict:
        if any(type(key) is not str for key in static or ()):
            yield static
    elif kind not in (tuple, list, type(None)):
        yield static
    for child in structure.children():
        yield from _static_parts(child)


def _module(entry: BoundEntry, nameless: bool) -> Hashable:
    """Return the key of what is bound; of a `nameless` module, all but its name."""
    if entry.attributes is None:
        return entry.variable, getattr(entry.make, "keywords", None) == {"unbox": True}
    entries = list(map(_entry, entry.attributes.entries))
    if nameless:
        place = name_place(entry.attributes.structure)
        if place is not None:
            entries[place] = "name"
    state = entry.state
    return (
        entry.make,
        entry.attributes.structure,
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


def _shared_counters(roots: Sequence[SplitScope]) -> tuple[int, ...]:
    """Tell which root scopes count their draws together: of each, the first one that it does."""
    names = [id(root.counters) for root in roots]
    return tuple(map(names.index, names))


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
