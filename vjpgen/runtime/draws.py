"""Random draws of runs that share one trace: the position of a draw is an argument.

Flax folds the path of a scope and a count into its key, as a constant. Equal layers differ in
these constants alone, so a scope made here takes the number that is folded in from the arguments
of the run; `Draws.values` gives the numbers of another call.

Source: `flax.core.scope.LazyRng`.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import config
from flax.core.scope import LazyRng, Scope

# Which root scope, the name of the rng, what is folded in behind the root's own suffix.
Draw = tuple[int, str, tuple[str | int, ...]]


class _Unknown:
    """Stands in the suffix of a key whose position no constant tells; folding it in raises."""


_UNKNOWN: Any = _Unknown()


@dataclasses.dataclass
class Draws:
    """The draws that runs of one shared trace make, numbered as they are first seen."""

    places: dict[Draw, int] = dataclasses.field(default_factory=dict)
    width: int = 0

    def values(self, origins: Sequence[Origin]) -> tuple[Any, ...]:
        """Return the number that each draw folds in, filled up with zeros to `width`.

        Args:
            origins: of each root scope of the call.
        """
        found: list[Any] = [np.uint32(0)] * self.width
        for (root, name, below), place in self.places.items():
            if place < self.width:
                found[place] = origins[root].number(name, below)
        return tuple(found)

    def outgrown(self) -> bool:
        """Tell whether there are more draws than arguments; there are enough the next time."""
        if len(self.places) <= self.width:
            return False
        self.width = len(self.places)
        return True


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where a scope's draws begin.

    Args:
        suffixes: for each rng what is folded into its key.
        numbers: where the scope itself draws by arguments, these.
        root: the scope's root among those of `numbers`.
    """

    suffixes: dict[str, tuple[Any, ...]]
    numbers: Numbers | None = None
    root: int = 0

    @staticmethod
    def of(scope: Scope) -> Origin:
        """Return the origin of a scope."""
        rngs: dict[str, Any] = scope.rngs
        suffixes = {name: rng.suffix for name, rng in rngs.items()}
        if isinstance(scope, DrawingScope):
            return Origin(suffixes, scope.numbers, scope.root_index)
        return Origin(suffixes)

    def number(self, name: str, below: tuple[str | int, ...]) -> Any:
        """Return the number that a draw folds in."""
        suffix = self.suffixes[name]
        if self.numbers is None:
            return folded((*suffix, *below))
        return self.numbers.number((self.root, name, (*_known(suffix), *below)))

    def restored(self, scope: Scope) -> Scope:
        """Have a scope that was built anew draw as the one that it stands for."""
        return scope if self.numbers is None else _drawing(scope, self.numbers, self.root)


def _known(suffix: tuple[Any, ...]) -> tuple[str | int, ...]:
    return suffix[suffix.index(_UNKNOWN) + 1 :]


def folded(data: Sequence[str | int]) -> np.uint32:
    """Return the number that Flax folds into a key for this suffix."""
    digest = hashlib.sha1()
    for part in data:
        if config.flax_fix_rng_separator:
            digest.update(b"\00")
        if isinstance(part, str):
            digest.update(part.encode())
        else:
            digest.update(part.to_bytes((part.bit_length() + 7) // 8, byteorder="big"))
    return np.uint32(int.from_bytes(digest.digest()[:4], byteorder="big"))


@dataclasses.dataclass(frozen=True)
class Numbers:
    """The numbers of one run, as arguments."""

    draws: Draws
    values: Sequence[Any]

    def number(self, draw: Draw) -> Any:
        """Return the number that a draw folds in."""
        place = self.draws.places.setdefault(draw, len(self.draws.places))
        return self.values[place] if place < len(self.values) else np.uint32(0)


class DrawingScope(Scope):
    """A scope that takes the position of its draws from the arguments of the run.

    What takes the keys some other way, as Flax's transforms do, meets a suffix that cannot be
    folded in, so that no draw is ever taken from a wrong position.
    """

    numbers: Numbers
    root_index: int

    def make_rng(self, name: str = "params") -> Any:
        """Draw a key, as `flax.core.Scope.make_rng` does."""
        if name not in self.rngs and "params" in self.rngs:
            name = "params"
        if name not in self.rngs:
            return super().make_rng(name)  # it raises
        self._check_valid()
        self._validate_trace_level()
        self.rng_counters[name] += 1
        lazy: Any = self.rngs[name]
        below = (*_known(lazy.suffix), self.rng_counters[name])
        return jax.random.fold_in(lazy.rng, self.numbers.number((self.root_index, name, below)))

    def push(self, name: str | None = None, prefix: str = "", reuse: bool = False) -> Scope:
        """Make a child scope, which draws likewise."""
        return self._likewise(super().push(name, prefix, reuse))

    def rewound(self, rewind_rngs: bool = False) -> Scope:
        """Make a rewound version of this scope, which draws likewise."""
        return self._likewise(super().rewound(rewind_rngs))

    def _likewise(self, scope: Scope) -> Scope:
        return _drawing(scope, self.numbers, self.root_index)


def with_numbers(scope: Scope, numbers: Numbers, root: int) -> Scope:
    """Have a root scope, and those below it, draw by `numbers`."""
    if not scope.rngs:
        return scope
    rngs: dict[str, Any] = scope.rngs
    scope.rngs = {name: LazyRng(rng.rng, (_UNKNOWN,)) for name, rng in rngs.items()}
    return _drawing(scope, numbers, root)


def _drawing(scope: Scope, numbers: Numbers, root: int) -> DrawingScope:
    scope.__class__ = DrawingScope
    assert isinstance(scope, DrawingScope)
    scope.numbers, scope.root_index = numbers, root
    return scope
