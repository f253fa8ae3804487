"""Keys that values are told apart by, and the parts that they are made of."""

from __future__ import annotations

import enum
from typing import Any

from vjpgen.runtime.code_reads import Reads


class Incomparable(Exception):  # noqa: N818 - it is no error of the user's
    """Raised for a value of which no key can be made; the message says which and why.

    Args:
        message: what it is.
        fleeting: the value is one of a trace, which nothing may keep alive.
    """

    def __init__(self, message: str, *, fleeting: bool = False) -> None:
        super().__init__(message)
        self.fleeting = fleeting


class Same:
    """Stands for one object in keys, and keeps it alive: equal to itself alone."""

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other._value is self._value

    def __hash__(self) -> int:
        return id(self._value)

    def __repr__(self) -> str:
        return f"Same({self._value!r})"


class Mark(enum.Enum):
    """What the parts of a key that follow are."""

    AGAIN = enum.auto()
    ALSO = enum.auto()
    ANSWER = enum.auto()
    UNBOUND = enum.auto()
    FUNCTION = enum.auto()
    CLASS = enum.auto()
    OBJECT = enum.auto()
    KNOWN = enum.auto()
    READ = enum.auto()

    __hash__ = object.__hash__


class Key:
    """What a value is, hashed once.

    Args:
        parts: plain values, `Same`s and other keys, in the order of the walk.
        reads: the code that was reached.
    """

    __slots__ = ("_hash", "_mentions", "_stores", "parts", "reads")

    def __init__(self, parts: tuple[Any, ...], reads: frozenset[Reads]) -> None:
        self.parts = parts
        self.reads = reads
        self._hash = hash(parts)
        self._mentions: frozenset[str] | None = None
        self._stores: frozenset[str] | None = None

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Key) and self._hash == other._hash and self.parts == other.parts

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"Key({hash(self):x})"

    @property
    def mentions(self) -> frozenset[str]:
        """The attributes that untrusted code loads or deletes; "*" where it may be any."""
        if self._mentions is None:
            self._mentions = frozenset().union(*(reads.mentions for reads in self.reads))
        return self._mentions

    @property
    def stores(self) -> frozenset[str]:
        """The attributes that untrusted code sets; "*" where it may be any."""
        if self._stores is None:
            self._stores = frozenset().union(*(reads.stores for reads in self.reads))
        return self._stores

    @property
    def tells_traced(self) -> bool:
        """Whether untrusted code may tell an array that is traced from one that has values."""
        return any(reads.tells_traced for reads in self.reads)
