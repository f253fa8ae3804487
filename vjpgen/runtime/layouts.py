"""Where the instances of a class keep what they hold."""

from __future__ import annotations

import collections
import struct
import types
from collections.abc import Callable
from typing import Any

from vjpgen.runtime.keys import Mark
from vjpgen.runtime.recent import Recent

_MADE_AT_RUN_TIME = 1 << 9  # Py_TPFLAGS_HEAPTYPE: every class of Python's own has it
# What a built-in class holds for a class that is derived from it.
CONTENT: dict[Any, Callable[[Any], Any]] = {
    int: int.__int__,
    float: float.__float__,
    complex: lambda value: complex.__add__(value, 0j),
    str: str.__str__,
    bytes: lambda value: bytes.__add__(value, b""),
    tuple: lambda value: tuple(tuple.__iter__(value)),
    frozenset: lambda value: tuple(frozenset.__iter__(value)),
    list: lambda value: tuple(list.__iter__(value)),
    set: lambda value: tuple(set.__iter__(value)),
    collections.deque: lambda value: (*collections.deque.__iter__(value), value.maxlen),
}


MUTABLE = frozenset({list, set, collections.deque})


def is_in_c(cls: type) -> bool:
    """Tell whether a class is written in C: none that Python makes has methods that are."""
    kinds = (types.MethodDescriptorType, types.WrapperDescriptorType)
    parts = cls.__dict__.values()
    return not cls.__flags__ & _MADE_AT_RUN_TIME or any(
        isinstance(part, kinds) and part.__objclass__ is cls for part in parts
    )


class Layout:
    """Where the instances of a class keep what they hold.

    Args:
        cls: the class.
    """

    def __init__(self, cls: type) -> None:
        bases = [base for base in cls.__mro__ if base in CONTENT or base is dict]
        self.base = bases[0] if bases else object
        made = [part for part in cls.__mro__ if part.__flags__ & _MADE_AT_RUN_TIME]
        self.slots = [
            part
            for owner in made
            for part in owner.__dict__.values()
            if isinstance(part, types.MemberDescriptorType)
        ]
        self.has_attributes = bool(cls.__dictoffset__)
        # -1 and less than that: Python keeps these elsewhere
        pointers = len(self.slots) + (cls.__weakrefoffset__ > 0)
        pointers += cls.__dictoffset__ not in (0, -1)
        size = self.base.__basicsize__ + pointers * struct.calcsize("P")
        # a class in C has room for more than its attributes
        self.hides = cls.__basicsize__ > size or cls.__itemsize__ != self.base.__itemsize__


_layouts: Recent[Layout] = Recent(1024)


def layout_of(cls: type) -> Layout:
    """Return where the instances of a class keep what they hold."""
    return _layouts.get(cls) or _layouts.put(cls, Layout(cls))


def slots_of(descriptors: list[Any], value: Any) -> tuple[Any, ...]:
    """Return the class of an object and what it holds in some slots."""
    return (type(value), *(_slot(descriptor, value) for descriptor in descriptors))


def _slot(descriptor: Any, value: Any) -> Any:
    try:
        return descriptor.__get__(value)
    except AttributeError:
        return Mark.UNBOUND
