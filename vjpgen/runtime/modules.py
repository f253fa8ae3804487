"""The bound modules of one call: found in its arguments, rebuilt on other scopes.

Follows `flax.linen.transforms.get_module_scopes` and `set_module_scopes`, with one path for a
module wherever it stands: first argument, later argument, attribute, captured value.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
from flax.core.scope import Scope, Variable, is_filter_empty
from flax.linen import module as linen_module
from flax.linen.module import Module, SetupState, wrap_method_once

from vjpgen.runtime.draws import Numbers, with_numbers
from vjpgen.runtime.errors import AmbientNeededError
from vjpgen.runtime.leaves import (
    Bound,
    Constant,
    Indexed,
    Operands,
    Packed,
    flatten,
    pack,
    sealed_constants,
    unpack,
)
from vjpgen.runtime.scopes import (
    CounterCopies,
    SplitScope,
    build_scope,
    descend,
    map_skeleton,
    mutable_variables,
    publish,
    roots_of,
    split_scope,
    unaffected,
)

# Every method that Flax wraps shares this code object; the wrapper is known by it.
_HANDLER_CODE = wrap_method_once(lambda: None).__code__

# Gives a constant anew around the modules that are built: `revive(value, built=modules)`.
Reviver = Callable[..., Any]


@dataclasses.dataclass(frozen=True, eq=False)
class BoundEntry:
    """How to build a module, scope or variable of the caller: nothing in it is traced.

    Args:
        make: gives the thing anew for a scope and, of a module, its attributes.
        attributes: a module's fields, packed.
        state: Flax's ephemeral state of a module.
        variable: a variable's collection and name.
        has_set_up: the module's `setup` had run, and may have had effects.
    """

    make: Callable[..., Any]
    attributes: Packed | None = None
    state: Any = None
    variable: tuple[str, str] | None = None
    has_set_up: bool = False


def bound_scope(value: Any) -> Scope | None:
    """Return the scope that a leaf is bound to; None for any other leaf."""
    if isinstance(value, Scope):
        return value
    if isinstance(value, (Module, Variable)) and isinstance(value.scope, Scope):
        return value.scope
    return None


def scopes_in(tree: Any) -> list[Scope]:
    """Return the scopes of the bound modules among the leaves of a tree."""
    return [scope for _, leaf in flatten(tree)[0] if (scope := bound_scope(leaf)) is not None]


class ModuleSet:
    """The bound modules of one call and the scopes that hold their variables.

    Args:
        operands: where the arrays of the scopes and of the modules' attributes go.
    """

    def __init__(self, operands: Operands) -> None:
        self.operands = operands
        self.entries: list[BoundEntry] = []
        self.roots: list[SplitScope] = []
        self.places: list[tuple[int, tuple[str, ...]]] = []
        self._index: dict[Any, int] = {}
        self._originals: list[Any] = []
        self._root_scopes: list[Scope] = []

    def bind(self, value: Any) -> Bound | None:
        """Take in a leaf; return its reference, or None where it is not bound to a scope."""
        if bound_scope(value) is None:
            return None
        key = value._id if isinstance(value, (Module, Variable)) else value
        if key not in self._index:
            entry = self._entry(value)
            self._index[key] = len(self.entries)
            self.entries.append(entry)
            self._originals.append(value)
        return Bound(self._index[key])

    def find(self, module: Any) -> int | None:
        """Return the index of a module that was taken in."""
        return self._index.get(getattr(module, "_id", None))

    def _entry(self, value: Any) -> BoundEntry:
        if isinstance(value, Scope):
            return BoundEntry(lambda scope: scope)
        if isinstance(value, Variable):
            make = functools.partial(
                _make_variable, value.collection, value.name, unbox=value.unbox
            )
            return BoundEntry(make, variable=(value.collection, value.name))
        label = f"attributes of {type(value).__name__}"
        attributes = pack(_attributes(value), self.operands, label, self.bind)
        state = value._state.export()
        has_set_up = state.setup_called is not SetupState.NEW and _setup_has_effects(value)
        return BoundEntry(type(value), attributes, state, has_set_up=has_set_up)

    def is_held(self, index: int) -> bool:
        """Tell whether a module is an attribute of another one."""
        return any(
            isinstance(leaf, Bound) and leaf.index == index
            for entry in self.entries
            if entry.attributes is not None
            for leaf in entry.attributes.entries
        )

    def name_of(self, index: int) -> str | None:
        """Return the name of a module that was taken in."""
        attributes = self.entries[index].attributes
        place = None if attributes is None else name_place(attributes.structure)
        if attributes is None or place is None:
            return None
        entry = attributes.entries[place]
        return entry.value if isinstance(entry, Constant) else None

    def split(self) -> None:
        """Move the arrays of all scopes into the operands; nothing is taken in afterwards."""
        scopes = [bound_scope(original) for original in self._originals]
        self._root_scopes, self.places = roots_of([scope for scope in scopes if scope is not None])
        many = len(self._root_scopes) > 1
        copies = CounterCopies()
        self.roots = [
            split_scope(root, self.operands, f"/{'/'.join(root.path)}:" if many else "", copies)
            for root in self._root_scopes
        ]

    def constants(self, start: int) -> list[Any]:
        """Return the untraced values in the attributes of all modules from the `start`-th on."""
        return [
            leaf.value
            for entry in self.entries[start:]
            if entry.attributes is not None
            for leaf in entry.attributes.entries
            if isinstance(leaf, Constant)
        ]

    def packed(self) -> list[Packed]:
        """Return the attributes of all modules and the variables of their scopes."""
        found = [entry.attributes for entry in self.entries if entry.attributes is not None]
        for root in self.roots:
            map_skeleton(found.append, root.variables)
        return found

    def classes(self, start: int) -> list[type]:
        """Return the classes of all modules from the `start`-th on."""
        return [entry.make for entry in self.entries[start:] if isinstance(entry.make, type)]

    def seal(self, sealed: Callable[[Any], Any]) -> None:
        """Keep, of the untraced values in the attributes of modules, what `sealed` gives."""
        self.entries = [
            entry
            if entry.attributes is None
            else dataclasses.replace(entry, attributes=sealed_constants(entry.attributes, sealed))
            for entry in self.entries
        ]

    def build(
        self,
        arrays: Indexed,
        flags: Mapping[str, Any],
        *,
        writable: bool = True,
        revive: Reviver | None = None,
        numbers: Numbers | None = None,
        nameless: int | None = None,
    ) -> BuiltModules:
        """Build every module anew around `arrays`.

        Args:
            arrays: the operands.
            flags: Flax's scope flags, in addition to the scopes' own.
            writable: False gives read-only modules without rngs.
            revive: gives a constant anew for the modules that are built.
            numbers: the positions of random draws, where they are arguments of the run.
            nameless: a module that is built without its name.
        """
        copies = CounterCopies()
        roots = [build_scope(root, arrays, flags, copies, writable=writable) for root in self.roots]
        if numbers is not None:
            roots = [with_numbers(root, numbers, index) for index, root in enumerate(roots)]
        scopes = [descend(roots[index], path) for index, path in self.places]
        modules = _Building(self.entries, scopes, arrays, revive, nameless).all()
        repeats = [m for m, entry in zip(modules, self.entries, strict=True) if entry.has_set_up]
        return BuiltModules(roots, modules, repeats)

    def publish(
        self, variables: Sequence[Any], counters: Sequence[Any], states: Sequence[Any]
    ) -> None:
        """Write what a run changed back to the caller's scopes and modules."""
        for scope, changed, count in zip(self._root_scopes, variables, counters, strict=True):
            publish(scope, changed, count)
        for original, state in zip(self._originals, states, strict=True):
            if state is None:
                continue
            original._state.reimport(state)
            if (
                state.setup_called is not SetupState.NEW
                and original._state.setup_called is SetupState.NEW
                and _setup_has_effects(original)
            ):
                _repeat_setup(original)  # what it did is published

    def release(self) -> None:
        """Let go of the caller's modules and scopes; building anew needs none of them."""
        self._originals.clear()
        self._root_scopes.clear()
        self._index.clear()


@dataclasses.dataclass
class _Building:
    """The modules of one run while they are built; each is built when it is first asked for.

    A module's attributes can hold modules that were taken in later: captured ones.
    """

    entries: Sequence[BoundEntry]
    scopes: Sequence[Scope]
    arrays: Indexed
    revive: Reviver | None
    nameless: int | None
    done: dict[int, Any] = dataclasses.field(default_factory=dict)

    def all(self) -> list[Any]:
        """Build what is not built yet; return all in order."""
        return [self[index] for index in range(len(self.entries))]

    def __getitem__(self, index: int) -> Any:
        if index not in self.done:
            attributes = {"name": None} if index == self.nameless else {}
            self.done[index] = self._make(self.entries[index], self.scopes[index], attributes)
        return self.done[index]

    def _make(self, entry: BoundEntry, scope: Scope, others: Mapping[str, Any]) -> Any:
        if entry.attributes is None:
            return entry.make(scope)
        constant = None if self.revive is None else functools.partial(self.revive, built=self)
        attributes = unpack(entry.attributes, self.arrays, self.__getitem__, constant)
        module = entry.make(parent=scope, **{**attributes, **others})
        object.__setattr__(module, "_state", entry.state.export())
        return module


def _make_variable(collection: str, name: str, scope: Scope, *, unbox: bool) -> Variable[Any]:
    return Variable(scope, collection, name, unbox=unbox)


@dataclasses.dataclass(frozen=True, eq=False)
class BuiltModules:
    """The modules of one run."""

    roots: list[Scope]
    modules: list[Any]
    _have_set_up: Sequence[Any] = ()

    def repeat_setups(self) -> None:
        """Set up the modules whose `setup` has had its effects on the caller's before the call."""
        for module in self._have_set_up:
            _repeat_setup(module)

    def variables(self) -> list[dict[str, Any]]:
        """Return the mutable collections of each root scope."""
        return [mutable_variables(root) for root in self.roots]

    def counters(self) -> list[dict[Any, Any]]:
        """Return the rng counters of each root scope."""
        return [root.rng_counters for root in self.roots]

    def states(self) -> list[Any]:
        """Return Flax's ephemeral state of each module; None for what has none."""
        return [
            module._state.export() if isinstance(module, Module) else None
            for module in self.modules
        ]

    def invalidate(self) -> None:
        """Close the scopes: whatever kept one gets Flax's own error from here on."""
        for root in self.roots:
            root.invalidate()


def _setup_has_effects(module: Module) -> bool:
    """Tell whether a module's `setup` can draw keys or update variables."""
    scope = module.scope
    return (
        type(module).setup is not Module.setup
        and isinstance(scope, Scope)
        and (bool(scope.rngs) or not is_filter_empty(scope.mutable))
    )


def _repeat_setup(module: Module) -> None:
    """Run a module's `setup`, which has run before, without effects.

    It ran before any method of the module, when nothing had been drawn from its scope.
    """
    assert isinstance(module.scope, Scope)
    with unaffected(module.scope):
        module._try_setup()


@functools.lru_cache(maxsize=1024)
def name_place(structure: Any) -> int | None:
    """Return which of a module's packed attributes is its name; None where it has none."""
    return jax.tree_util.tree_unflatten(structure, range(structure.num_leaves))["name"]


def _attributes(module: Module) -> dict[str, Any]:
    return {
        field.name: getattr(module, field.name)
        for field in dataclasses.fields(module)  # pyright: ignore[reportArgumentType]
        if field.name != "parent" and field.init
    }


def attribute_modules(entry: BoundEntry) -> Iterator[tuple[str, int]]:
    """Yield what is bound in a module's attributes, each with the name that Flax would give it."""
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


class _Guard(Module):
    """Stands for the ambient module in a run that was not given it; any use of it tells so."""


def _raise_needed(guard: Any, name: str) -> Any:
    if name == "__class__":  # it is a module, to all who ask
        return type(guard)
    raise AmbientNeededError(name)


# Set on the finished class, so that Flax does not take it for a method of the module.
_Guard.__getattribute__ = _raise_needed  # pyright: ignore[reportAttributeAccessIssue]
GUARD = object.__new__(_Guard)


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


def is_handled(function: Any) -> bool:
    """Tell whether Flax's method wrapper is the outermost of a function's."""
    return getattr(function, "__code__", None) is _HANDLER_CODE


def unwrap_handler(function: Any) -> Any:
    """Take Flax's method wrapper off, so that a rule is not captured or intercepted as a method."""
    return function.__wrapped__ if is_handled(function) else function


@contextlib.contextmanager
def method_context(module: Any, function: Any, *, setup: bool = True) -> Iterator[None]:
    """Run a rule as a method of `module`: what Flax's method wrapper does, less what it reports.

    Args:
        module: the module; anything else needs no context.
        function: the method.
        setup: False leaves the module's `setup` to whom needs it.
    """
    if not isinstance(module, Module) or module.scope is None:
        yield
        return
    if setup:
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
