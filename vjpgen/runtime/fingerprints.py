"""Keys of Python values: two calls whose keys are equal do the same, as far as values settle it.

A key says all that a function, a class or an object can make of Python state: what it holds, what
its code reads from its module, and so on from there. Plain values count by what they are, classes
and arrays of JAX by which they are, all else by its parts; a part met twice is named again, so
`is` gives the same too. What cannot be told that way raises `Incomparable`.

Classes and functions of modules are walked once. What was found is kept with guards: each place
that was read, with what stood there. While all of it still stands there, the key holds.

Left out: functions that a class was registered with elsewhere (`jax.tree_util`, `abc`), and the
state of trusted packages, which is the caller's to add.
"""

from __future__ import annotations

from typing import Any

from vjpgen.runtime.keys import Incomparable, Key
from vjpgen.runtime.value_walks import Leaf
from vjpgen.runtime.walks import Walk

__all__ = ["Incomparable", "Key", "fingerprint"]


def fingerprint(value: Any, leaf: Leaf | None = None) -> Key:
    """Return a key of a value, and of all that its code can reach.

    Keys are of use while the configuration and contexts of JAX and Flax stay the same. A run that
    changes Python state gives another key after it than before; whoever shares what the run gave
    had better compare the two.

    Args:
        value: any value; a tuple of all that matters, for `is` to hold between its parts.
        leaf: is asked first for every value met, but for plain ones, classes and modules: returns
            a hashable key that says all about it, or None.

    Returns:
        The key: hashable, equal for equal values; `mentions` and `stores` are the attributes that
        the code names. Keeps alive what it names by identity.

    Raises:
        Incomparable: where the value cannot be told from others by a key.
    """
    walk = Walk(leaf)
    try:
        walk.visit(value)
        return walk.key()
    except Incomparable:
        raise
    except Exception as error:  # reading an attribute may run any code, and nesting is too deep
        raise Incomparable(f"{type(error).__name__} within {type(value).__qualname__}") from error
