"""The bound modules of one call: found in its arguments, rebuilt on other scopes.

Follows `flax.linen.transforms.get_module_scopes` and `set_module_scopes`, with one path for a
module wherever it stands: first argument, later argument, attribute, captured value.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
from flax.core.scope import Scope, Variable
from flax.linen import module as linen_module
from flax.linen.module import Module, wrap_method_once

from vjpgen.runtime.leaves import Bound, Operands, Packed, pack, unpack
from vjpgen.runtime.scopes import (
    SplitScope,
    build_scope,
    descend,
    mutable_variables,
    publish,
    roots_of,
    split_scope,
)

# Every method that Flax wraps shares this code object; the wrapper is known by it.
_HANDLER_CODE = wrap_method_once(lambda: None).__code__


@dataclasses.dataclass(frozen=True, eq=False)
class BoundEntry:
    """A module, scope or variable that holds on to a scope."""

    original: Any
    scope: Scope
    attributes: Packed | None = None
    state: Any = None


def bound_scope(value: Any) -> Scope | None:
    """Return the scope that a leaf is bound to; None for any other leaf."""
    if isinstance(value, Scope):
        return value
    if isinstance(value, (Module, Variable)) and isinstance(value.scope, Scope):
        return value.scope
    return None


class ModuleSet:
    """The bound modules of one call and the scopes that hold their variables.

    Args:
        operands: where the arrays of the scopes and of the modules' attributes go.
    """

    def __init__(self, operands: Operands) -> None:
        self.operands = operands
        self.entries: list[BoundEntry | None] = []
        self.roots: list[SplitScope] = []
        self.places: list[tuple[int, tuple[str, ...]]] = []
        self._index: dict[Any, int] = {}

    def bind(self, value: Any) -> Bound | None:
        """Take in a leaf; return its reference, or None where it is not bound to a scope."""
        scope = bound_scope(value)
        if scope is None:
            return None
        key = value._id if isinstance(value, (Module, Variable)) else scope
        if key not in self._index:
            self._index[key] = len(self.entries)
            self.entries.append(None)
            self.entries[self._index[key]] = self._entry(value, scope)
        return Bound(self._index[key])

    def find(self, module: Any) -> int | None:
        """Return the index of a module that was taken in."""
        return self._index.get(getattr(module, "_id", None))

    def _entry(self, value: Any, scope: Scope) -> BoundEntry:
        if not isinstance(value, Module):
            return BoundEntry(value, scope)
        value._try_setup(shallow=True)
        attributes = pack(
            _attributes(value), self.operands, f"attributes of {type(value).__name__}", self.bind
        )
        return BoundEntry(value, scope, attributes, value._state.export())

    def split(self) -> None:
        """Move the arrays of all scopes into the operands; nothing is taken in afterwards."""
        roots, self.places = roots_of([entry.scope for entry in self._all()])
        many = len(roots) > 1
        self.roots = [
            split_scope(root, self.operands, f"/{'/'.join(root.path)}:" if many else "")
            for root in roots
        ]

    def build(
        self, arrays: Sequence[Any], flags: Mapping[str, Any], *, writable: bool = True
    ) -> BuiltModules:
        """Build every module anew around `arrays`."""
        roots = [build_scope(root, arrays, flags, writable=writable) for root in self.roots]
        scopes = [descend(roots[index], path) for index, path in self.places]
        built: dict[int, Any] = {}

        def get(index: int) -> Any:
            if index not in built:
                built[index] = self._build(self._all()[index], scopes[index], arrays, get)
            return built[index]

        for index in range(len(self.entries)):
            get(index)
        return BuiltModules(roots, [built[index] for index in range(len(self.entries))])

    def _build(
        self, entry: BoundEntry, scope: Scope, arrays: Sequence[Any], get: Callable[[int], Any]
    ) -> Any:
        original = entry.original
        if isinstance(original, Scope):
            return scope
        if isinstance(original, Variable):
            return Variable(scope, original.collection, original.name, unbox=original.unbox)
        assert entry.attributes is not None
        clone = original.clone(parent=scope, **unpack(entry.attributes, arrays, get))
        object.__setattr__(clone, "_state", entry.state.export())
        return clone

    def _all(self) -> list[BoundEntry]:
        return [entry for entry in self.entries if entry is not None]

    def publish(
        self, variables: Sequence[Any], counters: Sequence[Any], states: Sequence[Any]
    ) -> None:
        """Write what a run changed back to the caller's scopes and modules."""
        for root, changed, count in zip(self.roots, variables, counters, strict=True):
            publish(root.scope, changed, count)
        for entry, state in zip(self._all(), states, strict=True):
            if state is not None:
                entry.original._state.reimport(state)


@dataclasses.dataclass(frozen=True, eq=False)
class BuiltModules:
    """The modules of one run."""

    roots: list[Scope]
    modules: list[Any]

    def variables(self) -> list[dict[str, Any]]:
        """Return the mutable collections of each root scope."""
        return [mutable_variables(root) for root in self.roots]

    def counters(self) -> list[dict[Any, Any]]:
        """Return the rng counters of each root scope."""
        return [root.rng_counters for root in self.roots]

    def states(self) -> list[Any]:
        """Return Flax's ephemeral state of each module; None for what has none."""
        return [getattr(module, "_state", None) for module in self.modules]

    def invalidate(self) -> None:
        """Close the scopes: whatever kept one gets Flax's own error from here on."""
        for root in self.roots:
            root.invalidate()


def _attributes(module: Module) -> dict[str, Any]:
    return {
        field.name: getattr(module, field.name)
        for field in dataclasses.fields(module)  # pyright: ignore[reportArgumentType]
        if field.name != "parent" and field.init
    }


def attribute_modules(entry: BoundEntry) -> Iterator[tuple[str, int]]:
    """Yield the modules in a module's attributes, each with the name that Flax would give it."""
    if entry.attributes is None:
        return
    packed = entry.attributes
    paths = jax.tree_util.tree_flatten_with_path(
        jax.tree_util.tree_unflatten(packed.structure, range(len(packed.entries)))
    )[0]
    for path, position in paths:
        leaf = packed.entries[position]
        if isinstance(leaf, Bound):
            words = [str(getattr(k, "key", getattr(k, "idx", getattr(k, "name", k)))) for k in path]
            yield "_".join(words), leaf.index


def ambient_module() -> Any:
    """Return the module whose method runs at the moment; None outside of one."""
    return linen_module._context.module_stack[-1]


@contextlib.contextmanager
def ambient(module: Any) -> Iterator[None]:
    """Make `module` the parent of modules that are created inside."""
    if not isinstance(module, Module):
        yield
        return
    linen_module._context.module_stack.append(module)
    try:
        yield
    finally:
        linen_module._context.module_stack.pop()


def unwrap_handler(function: Any) -> Any:
    """Take Flax's method wrapper off, so that a rule is not captured or intercepted as a method."""
    if getattr(function, "__code__", None) is _HANDLER_CODE:
        return function.__wrapped__
    return function


@contextlib.contextmanager
def method_context(module: Any, function: Any) -> Iterator[None]:
    """Run a rule as a method of `module`: what Flax's method wrapper does, less what it reports."""
    if not isinstance(module, Module) or module.scope is None:
        yield
        return
    module._try_setup()
    compact = hasattr(function, "compact")
    nested = module._state.in_compact_method
    if compact:
        module._state.in_compact_method = True
    try:
        with ambient(module):
            yield
    finally:
        if compact:
            object.__setattr__(module, "scope", module.scope.rewound())
            if not nested:
                module._state.reset()
