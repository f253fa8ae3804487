"""One walk over values: plain ones and containers, and what every walk keeps count of."""

from __future__ import annotations

import collections
import dataclasses
import functools
import struct
import types
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from flax.core import FrozenDict

from vjpgen.runtime.code_reads import Reads
from vjpgen.runtime.guards import Guards
from vjpgen.runtime.keys import Incomparable, Key, Mark, Same
from vjpgen.runtime.trust import IMPURE_MEMBERS

Leaf = Callable[[Any], Any]

# How many values one key may speak of, and how large an array.
_MOST_VALUES = 4096
_MOST_BYTES = 64 * 1024
_PLAIN = frozenset({type(None), bool, int, str, bytes, type(...), type(NotImplemented)})


class How:
    """How values of one type are written, and whether `leaf` is asked about them."""

    __slots__ = ("asked", "visit")

    def __init__(self, visit: Callable[[Any, Any], None], *, asked: bool = True) -> None:
        self.visit = visit
        self.asked = asked


# How values of exactly these types are written.
HOW: dict[type, How] = {}


class ValueWalk:
    """One walk over a value: writes a key's parts.

    Args:
        leaf: as for `fingerprint`.
        guards: takes in each place that is read; None where nothing will be kept.
    """

    def __init__(self, leaf: Leaf | None, guards: Guards | None = None) -> None:
        self.leaf = leaf
        self.guards = guards
        self.out: list[Any] = []
        self.count = 0
        self.seen: dict[int, int] = {}
        self.held: list[Any] = []
        self.asked: list[Any] = []
        self.memos: list[Any] = []
        self.answered = False
        self.reads: set[Reads] = set()
        self.loose: set[str] = set()
        self._namespaces: set[tuple[int, Reads]] = set()

    def key(self) -> Key:
        """Return the key of all that was visited."""
        key = Key(tuple(self.out), frozenset(self.reads))
        for root in self.loose:
            if used := key.mentions & (IMPURE_MEMBERS[root] | {"*"}):
                raise Incomparable(f"{root} is used through a variable, maybe {min(used)}")
        return key

    def visit(self, value: Any) -> None:
        """Write what a value is."""
        self.count += 1
        if self.count > _MOST_VALUES:
            raise Incomparable(f"more than {_MOST_VALUES} values")
        kind = type(value)
        if kind in _PLAIN:
            self.out += (kind, value)
            return
        how = HOW.get(kind) or self.choose(kind)
        if how.asked:
            if self.guards is not None:
                self.asked.append(value)
            if self.leaf is not None and (answer := self.leaf(value)) is not None:
                self.answered = True
                self.out += (Mark.ANSWER, answer)
                return
        how.visit(self, value)

    def choose(self, kind: type) -> How:
        """Find how values of a type are written that `HOW` doesn't tell."""
        raise NotImplementedError

    def visit_all(self, kind: Any, values: Iterable[Any]) -> None:
        """Write what several values are, as the parts of one."""
        values = tuple(values)
        self.out += (kind, len(values))
        for value in values:
            self.visit(value)

    def is_new(self, value: Any) -> bool:
        """Tell whether an object is met for the first time; else write which it was."""
        place = self.place(id(value))
        if place is not None:
            self.out += (Mark.AGAIN, *place)
            return False
        self.seen[id(value)] = len(self.held)
        self.held.append(value)
        return True

    def place(self, name: int) -> tuple[int, int] | None:
        """Return where the object of an id was met: in which memo, or -1, and as which one."""
        place = self.seen.get(name)
        if place is not None:
            return -1, place
        for number, memo in enumerate(self.memos):
            if (place := memo.places.get(name)) is not None:
                return number, place
        return None

    def same(self, value: Any) -> None:
        """Write which object a value is."""
        self.out.append(Same(value))

    def write_real(self, value: float) -> None:
        """Write a float: by its bits, as 0.0 equals -0.0 and nan nothing."""
        self.out += (float, struct.pack("d", value))

    def write_complex(self, value: complex) -> None:
        """Write a complex number."""
        self.out += (complex, struct.pack("dd", value.real, value.imag))

    def write_sequence(self, value: Any) -> None:
        """Write a tuple or frozenset, which are no objects of their own, in order of iteration."""
        self.visit_all(type(value), value)

    def write_slice(self, value: slice) -> None:
        """Write a slice."""
        self.visit_all(slice, (value.start, value.stop, value.step))

    def write_range(self, value: range) -> None:
        """Write a range."""
        self.out += (range, value.start, value.stop, value.step)

    def write_list(self, value: Any) -> None:
        """Write a list, set or deque; the order of a set can matter, too."""
        if self.is_new(value):
            content = tuple(value)
            if self.guards is not None:
                self.guards.content(value.__iter__, content)
            if isinstance(value, collections.deque):
                content = (*content, value.maxlen)
            self.visit_all(type(value), content)

    def write_dict(self, value: Any) -> None:
        """Write a dict, in order."""
        if self.is_new(value):
            if isinstance(value, collections.defaultdict):
                self.out.append(collections.defaultdict)
                self.visit(value.default_factory)
            self.items(type(value), value)

    def items(self, kind: Any, mapping: Any) -> None:
        """Write the keys and values of a mapping."""
        # as it is, not as a subclass may show it
        owner: Any = dict if issubclass(type(mapping), dict) else types.MappingProxyType
        owner = collections.OrderedDict if type(mapping) is collections.OrderedDict else owner
        items = tuple(owner.items(mapping))
        if self.guards is not None:
            for read in (owner.keys, owner.values):
                self.guards.content(functools.partial(read, mapping), tuple(read(mapping)))
        self.out += (kind, len(items))
        for key, item in items:
            self.visit(key)
            self.visit(item)

    def write_proxy(self, value: types.MappingProxyType[Any, Any]) -> None:
        """Write a read-only view of a dict."""
        if self.is_new(value):
            self.items(types.MappingProxyType, value)

    def write_frozen(self, value: FrozenDict[Any, Any]) -> None:
        """Write a dict of Flax that doesn't change; the dicts in it are made as they are read."""
        if self.is_new(value):
            self.visit_all(FrozenDict, (part for item in value.items() for part in item))

    def write_cell(self, value: types.CellType) -> None:
        """Write a closure's variable."""
        if not self.is_new(value):
            return
        try:
            content = value.cell_contents
        except ValueError:
            self.out.append(Mark.UNBOUND)
            if self.guards is not None:
                self.guards.unbound(value)
            return
        if self.guards is not None:
            self.guards.cell(value, content)
        self.out.append(types.CellType)
        self.visit(content)

    def write_array(self, value: np.ndarray[Any, Any]) -> None:
        """Write an array of NumPy, by its bytes."""
        if value.dtype.hasobject or value.nbytes > _MOST_BYTES:
            raise Incomparable(f"a NumPy array of {value.nbytes} bytes, dtype {value.dtype}")
        if self.is_new(value):
            content = _array_content(value)
            if self.guards is not None:
                self.guards.computed(_array_content, value, content)
            self.out += (np.ndarray, *content)

    def write_scalar(self, value: np.generic) -> None:
        """Write a scalar of NumPy."""
        if value.dtype.hasobject:
            raise Incomparable(f"a NumPy scalar of dtype {value.dtype}")
        self.out += (type(value), value.dtype, value.tobytes())

    def write_by_value(self, value: Any) -> None:
        """Write an immutable value that knows itself when it equals another."""
        self.out += (type(value), value)

    def refuse(self, value: Any) -> None:
        """Raise for a value that has state which can't be seen."""
        raise Incomparable(f"a value of {type(value).__module__}.{type(value).__qualname__}")

    def refuse_traced(self, value: Any) -> None:
        """Raise for a value that belongs to a trace."""
        raise Incomparable(f"a traced {type(value).__qualname__}", fleeting=True)

    def write_field(self, value: dataclasses.Field[Any]) -> None:
        """Write a dataclass's field, which doesn't change once the class is made."""
        self.visit_all(dataclasses.Field, (value.name, value.init, value.kw_only, value.default))
        self.visit(value.default_factory)


def _array_content(value: np.ndarray[Any, Any]) -> tuple[Any, ...]:
    return value.dtype, value.shape, value.flags.writeable, value.tobytes()
