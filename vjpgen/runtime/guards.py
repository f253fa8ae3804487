"""Places that were read, with what stood there, checked again all at once and fast."""

from __future__ import annotations

import operator
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any

_is = operator.is_


class Guards:
    """Gathers places that were read, and tells whether the same objects still stand there."""

    def __init__(self) -> None:
        self._lookups: dict[int, tuple[Mapping[str, Any], dict[str, Any]]] = {}
        self._absences: dict[int, tuple[Mapping[str, Any], set[str]]] = {}
        self._functions: list[tuple[Any, ...]] = []
        self._cells: list[tuple[types.CellType, Any]] = []
        self._unbound: list[types.CellType] = []
        self._held: list[tuple[Any, Any, tuple[Any, ...], tuple[Any, ...]]] = []
        self._mros: list[tuple[type, tuple[type, ...]]] = []
        self._contents: list[tuple[Callable[[], Iterable[Any]], tuple[Any, ...]]] = []
        self._computed: list[tuple[Callable[[Any], Any], Any, Any]] = []
        self._getters: list[tuple[Callable[[Any], Any], Any, tuple[Any, ...]]] = []

    def lookup(self, namespace: Mapping[str, Any], name: str, value: Any) -> None:
        """Take in what a namespace holds by a name."""
        self._lookups.setdefault(id(namespace), (namespace, {}))[1][name] = value

    def absence(self, namespace: Mapping[str, Any], name: str) -> None:
        """Take in that a namespace doesn't hold a name."""
        self._absences.setdefault(id(namespace), (namespace, set()))[1].add(name)

    def function(self, value: types.FunctionType) -> None:
        """Take in a function, except for its attributes and the contents of its closure."""
        self._functions.append(
            (
                value,
                value.__code__,
                value.__defaults__,
                value.__kwdefaults__,
                value.__name__,
                value.__qualname__,
            )
        )

    def cell(self, value: types.CellType, content: Any) -> None:
        """Take in what a closure's variable holds."""
        self._cells.append((value, content))

    def unbound(self, value: types.CellType) -> None:
        """Take in that a closure's variable holds nothing yet."""
        self._unbound.append(value)

    def attributes(self, value: Any) -> None:
        """Take in the attributes of an object or class, and what class it has."""
        held = value.__dict__
        self._held.append((value, type(value), tuple(held), tuple(held.values())))
        if isinstance(value, type):
            self._mros.append((value, value.__mro__))

    def content(self, read: Callable[[], Iterable[Any]], content: tuple[Any, ...]) -> None:
        """Take in what a container gives, element by element."""
        self._contents.append((read, content))

    def computed(self, compute: Callable[[Any], Any], value: Any, result: Any) -> None:
        """Take in what a function of an object gives, which is compared by `==`."""
        self._computed.append((compute, value, result))

    def seal(self) -> None:
        """Make ready to check."""
        for namespace, names in self._lookups.values():
            first = next(iter(names))  # with two names or more the getter gives a tuple
            getter = operator.itemgetter(*names, first)
            self._getters.append((getter, namespace, (*names.values(), names[first])))

    def hold(self) -> bool:
        """Tell whether every place still has what it had."""
        try:
            return self._names_hold() and self._parts_hold()
        except (KeyError, ValueError, AttributeError, RuntimeError):
            return False  # a name or variable is gone, or changes as it is read

    def _names_hold(self) -> bool:
        for getter, namespace, values in self._getters:
            if not all(map(_is, getter(namespace), values)):
                return False
        for namespace, names in self._absences.values():
            if not namespace.keys().isdisjoint(names):
                return False
        for function, code, defaults, kwdefaults, name, qualname in self._functions:
            if (
                function.__code__ is not code
                or function.__defaults__ is not defaults
                or function.__kwdefaults__ is not kwdefaults
                or function.__name__ is not name
                or function.__qualname__ is not qualname
            ):
                return False
        return True

    def _parts_hold(self) -> bool:
        for value, cls, names, values in self._held:
            held = value.__dict__
            if type(value) is not cls or len(held) != len(names):
                return False
            if names and not (all(map(_is, held, names)) and all(map(_is, held.values(), values))):
                return False
        for cls, mro in self._mros:
            if cls.__mro__ is not mro:
                return False
        for cell, content in self._cells:
            if cell.cell_contents is not content:
                return False
        for read, content in self._contents:
            now = tuple(read())
            if len(now) != len(content) or not all(map(_is, now, content)):
                return False
        if any(_is_bound(cell) for cell in self._unbound):
            return False
        return all(compute(value) == result for compute, value, result in self._computed)


def _is_bound(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is cell.cell_contents
    except ValueError:
        return False
