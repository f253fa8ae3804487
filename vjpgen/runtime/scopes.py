"""Flax scopes, split into arrays and rebuilt around other arrays.

Follows `flax.core.lift.pack`, with three differences: rng keys become operands like
everything else, each run starts from the rng counters of the split (a second trace draws the
same numbers as the first), and nothing is frozen, so every collection keeps its type.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from flax.core.frozen_dict import FrozenDict
from flax.core.scope import Filter, Scope, in_filter

from vjpgen.runtime.draws import Origin
from vjpgen.runtime.leaves import Indexed, Operands, Packed, pack, unpack

# A collection without its arrays: nested dicts that keep their order, packed values at the ends.
Skeleton = dict[str, Any]


class FrozenSkeleton(dict[str, Any]):
    """The skeleton of a `FrozenDict`, which becomes one again."""


@dataclasses.dataclass(frozen=True, eq=False)
class SplitScope:
    """How to build one scope of the caller: nothing in it is traced."""

    name: str | None
    path: tuple[str, ...]
    debug_path: tuple[str, ...]
    mutable: Filter
    flags: Mapping[str, Any]
    variables: Skeleton
    rngs: Packed
    origin: Origin
    counters: dict[Any, Any]


def split_scope(
    scope: Scope, operands: Operands, label: str, counters: CounterCopies
) -> SplitScope:
    """Move the arrays and rng keys of a scope into `operands`."""
    scope._populate_collections()
    variables = {
        name: pack_skeleton(collection, operands, f"{label}{name}")
        for name, collection in scope._variables.items()
    }
    return SplitScope(
        scope.name,
        scope.path,
        scope.debug_path,
        scope.mutable,
        scope.flags,
        variables,
        pack(dict(scope.rngs), operands, f"{label}rng"),
        Origin.of(scope),
        counters.copy(scope.rng_counters),
    )


def build_scope(
    split: SplitScope,
    arrays: Indexed,
    flags: Mapping[str, Any],
    counters: CounterCopies,
    *,
    writable: bool = True,
) -> Scope:
    """Build a scope around `arrays`, apart from the caller's.

    Args:
        split: the caller's scope as it was split.
        arrays: the operands.
        flags: Flax's scope flags, in addition to the scope's own.
        counters: copies the rng counters; one for all scopes of a run.
        writable: False gives a scope without rngs whose variables cannot change.
    """
    scope = Scope(
        {name: unpack_skeleton(tree, arrays) for name, tree in split.variables.items()},
        rngs=unpack(split.rngs, arrays) if writable else {},
        name=split.name,
        mutable=split.mutable if writable else False,
        parent=None,
        path=split.path,
        debug_path=split.debug_path,
        flags={**split.flags, **flags},
    )
    if not writable:
        return scope
    scope.rng_counters = counters.copy(split.counters)
    return split.origin.restored(scope)


def mutable_variables(scope: Scope) -> dict[str, Any]:
    """Return the collections of a scope that its caller may see changed."""
    return {
        name: value for name, value in scope._variables.items() if in_filter(scope.mutable, name)
    }


def publish(scope: Scope, variables: Mapping[str, Any], counters: Mapping[Any, Any]) -> None:
    """Write variables and rng counters back to the caller's scope."""
    for name, collection in variables.items():
        for key, value in collection.items():
            scope.put_variable(name, key, value)
    _update_counters(scope.rng_counters, counters)


def roots_of(scopes: Sequence[Scope]) -> tuple[list[Scope], list[tuple[int, tuple[str, ...]]]]:
    """Find the scopes that hold all others, and each scope's root and path below it."""
    unique = dict.fromkeys(scopes)
    found: list[tuple[Scope, tuple[str, ...]]] = []
    for scope in scopes:
        root, below = scope, ()
        names: list[str] = []
        ancestor: Scope | None = scope
        while ancestor is not None:
            if ancestor in unique:
                root, below = ancestor, tuple(reversed(names))
            names.append(ancestor.name or "")
            ancestor = ancestor.parent
        found.append((root, below))
    roots = list(dict.fromkeys(root for root, _ in found))
    index = {root: i for i, root in enumerate(roots)}
    return roots, [(index[root], below) for root, below in found]


def descend(scope: Scope, path: Sequence[str]) -> Scope:
    """Return the scope below `scope` at `path`."""
    for name in path:
        scope = scope.push(name, reuse=True)
    return scope


def pack_skeleton(value: Any, operands: Operands, label: str) -> Any:
    """Pack a collection; `label` and the keys name its arrays."""
    if not isinstance(value, (dict, FrozenDict)):
        return pack(value, operands, label)
    parts = {key: pack_skeleton(item, operands, f"{label}.{key}") for key, item in value.items()}
    return FrozenSkeleton(parts) if isinstance(value, FrozenDict) else parts


def unpack_skeleton(tree: Any, arrays: Indexed) -> Any:
    """Rebuild a collection from its skeleton."""
    if not isinstance(tree, dict):
        return unpack(tree, arrays)
    parts = {key: unpack_skeleton(item, arrays) for key, item in tree.items()}
    return FrozenDict(parts) if isinstance(tree, FrozenSkeleton) else parts


def map_skeleton(function: Callable[[Packed], Any], tree: Any) -> Any:
    """Apply `function` to each packed value of a skeleton; what comes of it is dicts."""
    if isinstance(tree, dict):
        return {key: map_skeleton(function, item) for key, item in tree.items()}
    return function(tree)


class CounterCopies:
    """Copies rng counters; counters that two scopes share are shared by the copies, too."""

    def __init__(self) -> None:
        self._done: dict[int, dict[Any, Any]] = {}

    def copy(self, counters: dict[Any, Any]) -> dict[Any, Any]:
        """Return a deep copy."""
        if id(counters) not in self._done:
            self._done[id(counters)] = twin = {}
            for key, value in counters.items():
                twin[key] = self.copy(value) if isinstance(value, dict) else value
        return self._done[id(counters)]


@contextlib.contextmanager
def unaffected(scope: Scope) -> Iterator[None]:
    """Draw from a scope as if for the first time; put its counters and variables back at the end.

    What is created inside stays.
    """
    scope._populate_collections()
    counters = CounterCopies().copy(scope.rng_counters)
    variables = {name: _copied(tree) for name, tree in mutable_variables(scope).items()}
    _reset_counters(scope.rng_counters)
    try:
        yield
    finally:
        _update_counters(scope.rng_counters, counters)
        _put_back(scope._variables, variables)


def _copied(tree: Any) -> Any:
    return {k: _copied(v) for k, v in tree.items()} if isinstance(tree, dict) else tree


def _put_back(target: Any, source: Mapping[str, Any]) -> None:
    for key, value in source.items():
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            _put_back(target[key], value)
        else:
            target[key] = value


def _reset_counters(counters: dict[Any, Any]) -> None:
    for key, value in counters.items():
        if isinstance(value, dict):
            _reset_counters(value)
        else:
            counters[key] = 0


def _update_counters(target: dict[Any, Any], source: Mapping[Any, Any]) -> None:
    for key, value in source.items():
        if isinstance(value, Mapping):
            _update_counters(target.setdefault(key, {}), value)
        else:
            target[key] = value
