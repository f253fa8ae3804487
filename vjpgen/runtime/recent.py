"""What was computed for objects, kept for as long as they live and there are not too many."""

from __future__ import annotations

import functools
import threading
import weakref
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")


class Recent(Generic[_T]):
    """What was computed for some objects, which are held weakly; a bounded number.

    Args:
        limit: how many are kept.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: dict[int, tuple[weakref.ref[Any], _T]] = {}
        self._lock = threading.Lock()

    def get(self, owner: Any) -> _T | None:
        """Return what was put for an object; None where nothing is kept."""
        found = self._values.get(id(owner))
        # an id may have been another object's
        return found[1] if found is not None and found[0]() is owner else None

    def put(self, owner: Any, value: _T) -> _T:
        """Keep a value for an object; those put longest ago go where there are too many."""
        name = id(owner)
        with self._lock:
            self._values.pop(name, None)
            if len(self._values) >= self._limit:
                for old in tuple(self._values)[: self._limit // 4 + 1]:
                    self._values.pop(old, None)
            forget = functools.partial(self._forget, name)
            self._values[name] = (weakref.ref(owner, forget), value)
        return value

    def _forget(self, name: int, owner: weakref.ref[Any]) -> None:
        found = self._values.get(name)
        if found is not None and found[0] is owner:
            self._values.pop(name, None)

    def __len__(self) -> int:
        return len(self._values)
