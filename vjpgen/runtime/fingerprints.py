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

import collections
import dataclasses
import enum
import functools
import importlib.util
import inspect
import operator
import struct
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from flax.core import FrozenDict
from flax.core.scope import Scope, Variable
from flax.linen.module import Module
from jax.core import Tracer

from vjpgen.runtime.code_reads import (
    CALLBACKS,
    IMPURE_BUILTINS,
    IMPURE_MEMBERS,
    Import,
    Reads,
    Recent,
    Same,
    exported,
    is_impure_module,
    is_trusted,
    is_trusted_namespace,
    reads_of,
)
from vjpgen.runtime.guards import Guards
from vjpgen.runtime.rule import RULE, Rule

Leaf = Callable[[Any], Any]

# How many values one key may speak of, and how large an array.
_MOST_VALUES = 4096
_MOST_BYTES = 64 * 1024


class Incomparable(Exception):  # noqa: N818 - it is no error of the user's
    """Raised for a value of which no key can be made; the message says which and why.

    Args:
        message: what it is.
        lasts: no caller's `leaf` and no later value changes it, only other code.
    """

    def __init__(self, message: str, *, lasts: bool = False) -> None:
        super().__init__(message)
        self.lasts = lasts


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
    walk = _Walk(leaf)
    try:
        walk.visit(value)
        return walk.key()
    except Incomparable:
        raise
    except Exception as error:  # reading an attribute may run any code, and nesting is too deep
        raise Incomparable(f"{type(error).__name__} within {type(value).__qualname__}") from error


def mentions(value: Any, leaf: Leaf | None = None) -> frozenset[str]:
    """Return the attributes that untrusted code reached from a value loads or deletes.

    Args:
        value: any value.
        leaf: as for `fingerprint`.

    Returns:
        The names; "*" among them where any attribute may be read by name.

    Raises:
        Incomparable: where `fingerprint` raises it.
    """
    return fingerprint(value, leaf).mentions


class _Mark(enum.Enum):
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


class _Memo:
    """What a walk from a class or function found.

    Args:
        walk: the walk, over.
        failure: what it ended with, in place of a key.
    """

    def __init__(self, walk: _Walk, failure: Incomparable | None = None) -> None:
        assert walk.guards is not None
        self.guards = walk.guards
        self.guards.seal()
        self.failure = failure
        self.asked = walk.asked
        self.answered = walk.answered
        self.key = walk.key() if failure is None else None
        self.count = walk.count
        self.loose = walk.loose
        self.held = walk.held  # whose ids `places` has
        self.places = walk.seen

    def holds(self, leaf: Leaf | None) -> bool:
        """Tell whether a walk now would find the same."""
        if not self.guards.hold():
            return False
        return leaf is None or all(leaf(value) is None for value in self.asked)


# Those of classes that functions make keep little else alive: there may be any number of them.
_memos: Recent[_Memo] = Recent(256)
_local_memos: Recent[_Memo] = Recent(32)


class _Walk:
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
        self.memos: list[_Memo] = []
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
        how = _HOW.get(kind) or _how(kind)
        if how.asked:
            if self.guards is not None:
                self.asked.append(value)
            if self.leaf is not None and (answer := self.leaf(value)) is not None:
                self.answered = True
                self.out += (_Mark.ANSWER, answer)
                return
        how.visit(self, value)

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
            self.out += (_Mark.AGAIN, *place)
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

    # -- plain values and containers

    def real(self, value: float) -> None:
        """Write a float: by its bits, as 0.0 equals -0.0 and nan nothing."""
        self.out += (float, struct.pack("d", value))

    def complex(self, value: complex) -> None:
        """Write a complex number."""
        self.out += (complex, struct.pack("dd", value.real, value.imag))

    def sequence(self, value: Any) -> None:
        """Write a tuple or frozenset, which are no objects of their own, in order of iteration."""
        self.visit_all(type(value), value)

    def slice(self, value: slice) -> None:
        """Write a slice."""
        self.visit_all(slice, (value.start, value.stop, value.step))

    def range(self, value: range) -> None:
        """Write a range."""
        self.out += (range, value.start, value.stop, value.step)

    def list(self, value: Any) -> None:
        """Write a list, set or deque; the order of a set can matter, too."""
        if self.is_new(value):
            content = tuple(value)
            if self.guards is not None:
                self.guards.content(value.__iter__, content)
            if isinstance(value, collections.deque):
                content = (*content, value.maxlen)
            self.visit_all(type(value), content)

    def dict(self, value: Any) -> None:
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

    def proxy(self, value: types.MappingProxyType[Any, Any]) -> None:
        """Write a read-only view of a dict."""
        if self.is_new(value):
            self.items(types.MappingProxyType, value)

    def frozen(self, value: FrozenDict[Any, Any]) -> None:
        """Write a dict of Flax that doesn't change; the dicts in it are made as they are read."""
        if self.is_new(value):
            self.visit_all(FrozenDict, (part for item in value.items() for part in item))

    def cell(self, value: types.CellType) -> None:
        """Write a closure's variable."""
        if not self.is_new(value):
            return
        try:
            content = value.cell_contents
        except ValueError:
            self.out.append(_Mark.UNBOUND)
            if self.guards is not None:
                self.guards.unbound(value)
            return
        if self.guards is not None:
            self.guards.cell(value, content)
        self.out.append(types.CellType)
        self.visit(content)

    def array(self, value: np.ndarray[Any, Any]) -> None:
        """Write an array of NumPy, by its bytes."""
        if value.dtype.hasobject or value.nbytes > _MOST_BYTES:
            raise Incomparable(f"a NumPy array of {value.nbytes} bytes, dtype {value.dtype}")
        if self.is_new(value):
            content = _array_content(value)
            if self.guards is not None:
                self.guards.computed(_array_content, value, content)
            self.out += (np.ndarray, *content)

    def scalar(self, value: np.generic) -> None:
        """Write a scalar of NumPy."""
        if value.dtype.hasobject:
            raise Incomparable(f"a NumPy scalar of dtype {value.dtype}")
        self.out += (type(value), value.dtype, value.tobytes())

    def by_value(self, value: Any) -> None:
        """Write an immutable value that knows itself when it equals another."""
        self.out += (type(value), value)

    def refuse(self, value: Any) -> None:
        """Raise for a value that has state which can't be seen, or a trace of its own."""
        raise Incomparable(f"a value of {type(value).__module__}.{type(value).__qualname__}")

    def field(self, value: dataclasses.Field[Any]) -> None:
        """Write a dataclass's field, which doesn't change once the class is made."""
        self.visit_all(dataclasses.Field, (value.name, value.init, value.kw_only, value.default))
        self.visit(value.default_factory)

    # -- modules, functions and what code reads

    def module(self, value: types.ModuleType, chain: tuple[str, ...] = ()) -> None:
        """Write a module, of which the attributes of a chain are read one after the other."""
        name = value.__name__
        if is_trusted(name):
            self.trusted_module(value, chain)
        elif is_impure_module(name):
            raise Incomparable(f"the module {name} has state", lasts=True)
        elif not chain:
            raise Incomparable(f"the module {name} is used as a value")
        else:
            self.out += (_Mark.KNOWN, name)
            found = self.lookup(value.__dict__, chain[0])
            if found is _Mark.UNBOUND:
                raise Incomparable(f"{name} holds no {chain[0]}")
            if isinstance(found, types.ModuleType):
                self.module(found, chain[1:])
            else:
                self.visit(found)

    def trusted_module(self, value: types.ModuleType, chain: tuple[str, ...]) -> None:
        """Write a trusted module, unless what is read of it isn't."""
        self.same(value)
        impure = IMPURE_MEMBERS.get(value.__name__, frozenset())
        if not chain:
            if impure:
                self.loose.add(value.__name__)
            return
        if chain[0] in impure:
            raise Incomparable(f"{value.__name__}.{chain[0]} has state", lasts=True)
        found = value.__dict__.get(chain[0])
        if isinstance(found, types.ModuleType):
            self.module(found, chain[1:])

    def lookup(self, namespace: dict[str, Any], name: str) -> Any:
        """Return what a namespace holds by a name; `_Mark.UNBOUND` for nothing."""
        found = namespace.get(name, _Mark.UNBOUND)
        if self.guards is not None:
            if found is _Mark.UNBOUND:
                self.guards.absence(namespace, name)
            else:
                self.guards.lookup(namespace, name, found)
        return found

    def function(self, value: types.FunctionType) -> None:
        """Write a function: its code, what it holds, and what the code reads."""
        reads = None
        if is_trusted_namespace(value.__globals__):
            if (name := exported(value)) is not None:
                self.known(name, value)
                return
            code: Any = Same(value.__code__)
        else:
            reads = reads_of(value.__code__)
            code = reads.token
        if not self.is_new(value):
            return
        if self.guards is not None:
            self.guards.function(value)
        self.out += (_Mark.FUNCTION, code, value.__name__, value.__qualname__, value.__module__)
        rule = value.__dict__.get(RULE)
        self.attributes(value)
        if isinstance(rule, Rule) and reads is None:
            return  # the wrapper around a rule holds nothing else
        self.visit_all(tuple, value.__defaults__ or ())
        if value.__kwdefaults__:
            self.items(dict, value.__kwdefaults__)
        for cell in value.__closure__ or ():
            self.visit(cell)
        if reads is not None:
            self.code(reads, value)

    def code(self, reads: Reads, function: types.FunctionType) -> None:
        """Write what code reads from its module and from others."""
        namespace = function.__globals__
        place = (id(namespace), reads)
        if place in self._namespaces:
            self.out.append(_Mark.READ)
            return
        self._namespaces.add(place)
        self.reads.add(reads)
        if reads.impure:
            raise Incomparable(reads.impure, lasts=True)
        for name, chains in reads.names:
            self.name(reads, function, name, chains)
        for statement in reads.imports:
            self.imported(statement, namespace)

    def name(
        self,
        reads: Reads,
        function: types.FunctionType,
        name: str,
        chains: tuple[tuple[str, ...], ...],
    ) -> None:
        """Write what a global name stands for."""
        found = self.lookup(function.__globals__, name)
        if found is _Mark.UNBOUND:
            found = self.lookup(function.__builtins__, name)
            if name in IMPURE_BUILTINS or (name == "hash" and reads.code.co_name != "__hash__"):
                message = f"{reads.code.co_qualname} uses {name}"
                raise Incomparable(message, lasts=True)
        if found is _Mark.UNBOUND:
            self.out.append(found)  # it raises NameError, or is a name of a class body
        elif isinstance(found, types.ModuleType):
            for chain in chains:
                self.module(found, chain)
        else:
            self.visit(found)

    def imported(self, statement: Import, namespace: dict[str, Any]) -> None:
        """Write what an import statement inside a function gives."""
        name = "." * statement.level + statement.module
        package = namespace.get("__package__") or namespace.get("__name__", "")
        try:
            name = importlib.util.resolve_name(name, package)
        except ImportError:
            raise Incomparable(f"the import of {name}") from None
        module = self.lookup(sys.modules, name)  # pyright: ignore[reportArgumentType]
        if not isinstance(module, types.ModuleType):
            raise Incomparable(f"{name} isn't imported yet")
        if statement.names is None:
            self.module(module)
            return
        for part in statement.names:
            submodule = sys.modules.get(f"{name}.{part}")
            if part not in module.__dict__ and submodule is not None:
                self.module(submodule)
            else:
                self.module(module, (part,))

    def known(self, name: str, value: Any) -> None:
        """Write something that a trusted module or `builtins` holds by its name."""
        module, _, member = name.rpartition(".")
        if module == "builtins" and member in IMPURE_BUILTINS:
            raise Incomparable(f"the function {member}", lasts=True)
        if member in CALLBACKS:
            raise Incomparable(f"{name} runs a function later", lasts=True)
        if member in IMPURE_MEMBERS.get(module, ()):
            raise Incomparable(f"{name} has state", lasts=True)
        self.same(value)

    def builtin(self, value: Any) -> None:
        """Write a function written in C: a module's, a type's, or an object's."""
        owner = getattr(value, "__self__", getattr(value, "__objclass__", None))
        if (name := exported(value)) is not None:
            self.known(name, value)
        elif isinstance(owner, types.ModuleType) or owner is None:
            raise Incomparable(f"the function {value.__name__} of {value.__module__}", lasts=True)
        else:
            self.out += (types.BuiltinFunctionType, value.__name__)
            self.visit(owner)

    def ufunc(self, value: np.ufunc) -> None:
        """Write a function of NumPy over elements; one made of a Python function hides it."""
        homes = [sys.modules.get(name) for name in ("numpy", "scipy.special")]
        if not any(getattr(home, value.__name__, None) is value for home in homes):
            self.refuse(value)
        self.same(value)

    def holder(self, value: Any) -> None:
        """Write a thing that holds functions or values under fixed names, such as a property."""
        if self.is_new(value):
            names = _PARTS[type(value)]
            self.visit_all(type(value), (getattr(value, name) for name in names))
            if hasattr(value, "__dict__"):
                self.attributes(value)

    def method(self, value: types.MethodType) -> None:
        """Write a bound method."""
        self.out.append(types.MethodType)
        self.visit(value.__func__)
        self.visit(value.__self__)

    def reduced(self, value: Any) -> None:
        """Write one of `operator`'s getters."""
        self.visit_all(type(value), value.__reduce__()[1:])

    def cached(self, value: Any) -> None:
        """Write a function under `functools.lru_cache`.

        Other misses, other contents: results computed while the state was another.
        """
        if (name := exported(value)) is not None:
            self.known(name, value)
        elif self.is_new(value):
            misses = _misses(value)
            if self.guards is not None:
                self.guards.computed(_misses, value, misses)
            self.out += (type(value), misses)
            self.visit_all(tuple, value.cache_parameters().values())
            self.attributes(value)

    def jitted(self, value: Any) -> None:
        """Write a function under `jax.jit`: which it is, as its options are hidden."""
        if (name := exported(value)) is not None:
            self.known(name, value)
        elif self.is_new(value):
            self.same(value)
            self.visit(value.__wrapped__)  # a copy of one has none, and hides its function

    def signature(self, value: inspect.Signature) -> None:
        """Write a signature, without annotations."""
        self.out += (inspect.Signature, len(value.parameters))
        for parameter in value.parameters.values():
            self.out += (parameter.name, int(parameter.kind), parameter.default is parameter.empty)
            if parameter.default is not parameter.empty:
                self.visit(parameter.default)

    def rule(self, value: Rule) -> None:
        """Write a rule: all that a call makes use of."""
        if self.is_new(value):
            self.out.append(Rule)
            for name, part in vars(value).items():
                if name not in ("claims", "example"):
                    self.visit(part)

    # -- classes and their instances

    def type(self, value: type) -> None:
        """Write a class: which it is, and what it and its bases hold."""
        if (name := _exported_class(value)) is not None:
            self.known(name, value)
            return
        if self.guards is not None or self.place(id(value)) is not None:
            self.class_parts(value)
        else:
            self.remembered(value, _Walk.class_parts)

    def class_parts(self, value: type) -> None:
        """Write a class, part by part."""
        if not self.is_new(value):
            return
        if (
            is_impure_module(value.__module__)
            and getattr(sys.modules.get(value.__module__), value.__name__, None) is value
        ):
            raise Incomparable(f"the class {value.__module__}.{value.__qualname__}", lasts=True)
        if not value.__flags__ & _MADE_AT_RUN_TIME or _is_in_c(value):
            raise Incomparable(f"the class {value.__module__}.{value.__qualname__}, written in C")
        held = value.__dict__
        if self.guards is not None:
            self.guards.attributes(value)
        self.out += (_Mark.CLASS, Same(value), len(value.__mro__))
        if type(value) is not type:
            self.type(type(value))
        self.parts(held, _CLASS_DETAILS)
        for base in value.__mro__[1:]:
            self.visit(base)

    def top_function(self, value: types.FunctionType) -> None:
        """Write a function: from memory where it stands in a module or class."""
        is_made_anew = "<locals>" in value.__qualname__
        is_known = is_trusted_namespace(value.__globals__) and exported(value) is not None
        if self.guards is not None or is_made_anew or is_known or self.place(id(value)):
            self.function(value)
        else:
            self.remembered(value, _Walk.function)

    def remembered(self, value: Any, visit: Callable[[_Walk, Any], None]) -> None:
        """Write what was found about a class or function before, if that still holds."""
        memos = _local_memos if "<locals>" in value.__qualname__ else _memos
        memo = memos.get(value)
        if memo is None or not memo.holds(self.leaf):
            memo = _explore(value, visit, self.leaf)
            if not memo.answered:  # what a caller's `leaf` has said, is for this call
                memos.put(value, memo)
        if memo.failure is not None:
            raise Incomparable(*memo.failure.args, lasts=memo.failure.lasts)
        assert memo.key is not None
        self.count += memo.count
        self.reads |= memo.key.reads
        self.loose |= memo.loose
        self.out.append(memo.key)
        # the objects in it that were met before
        places = memo.places
        known = places.keys() & self.seen
        for other in self.memos:
            known |= places.keys() & other.places
        for name in sorted(known, key=places.__getitem__):
            self.out += (_Mark.ALSO, places[name], *(self.place(name) or ()))
        self.memos.append(memo)

    def attributes(self, value: Any) -> None:
        """Write the attributes of an object."""
        if self.guards is not None:
            self.guards.attributes(value)
        self.parts(value.__dict__, _DETAILS)

    def parts(self, held: Mapping[str, Any], left_out: frozenset[str]) -> None:
        """Write attributes, but for some."""
        parts = [(name, part) for name, part in tuple(held.items()) if name not in left_out]
        self.out.append(len(parts))
        for name, part in parts:
            self.out.append(name)
            self.visit(part)

    def object(self, value: Any) -> None:
        """Write an object of a class: the class, and what it holds."""
        cls = type(value)
        layout = _layout_of(cls)
        if layout.hides:
            self.refuse(value)
        if is_trusted(cls.__module__) and (name := _exported_value(value)) is not None:
            self.known(name, value)
            return
        if not self.is_new(value):
            return
        self.out.append(_Mark.OBJECT)
        self.type(cls)
        if layout.base in _CONTENT:
            read = functools.partial(_CONTENT[layout.base], value)
            content = read()
            if self.guards is not None and layout.base in _MUTABLE:
                self.guards.content(read, content)
            self.visit(content)
        elif layout.base is dict:
            self.items(dict, value)
        if layout.slots:
            parts = _slots(layout.slots, value)
            if self.guards is not None:
                self.guards.content(functools.partial(_slots, layout.slots, value), parts)
            self.visit_all(tuple, parts[1:])
        if layout.has_attributes:
            self.attributes(value)

    def member(self, value: enum.Enum) -> None:
        """Write a member of an enumeration: which it is, and what it holds."""
        self.same(value)
        if _exported_class(type(value)) is None and self.is_new(value):
            self.type(type(value))
            self.attributes(value)

    def linen(self, value: Module) -> None:
        """Write a Linen module that isn't bound, such as a template in a field."""
        held = value.__dict__
        if held.get("scope") is not None or isinstance(value.parent, (Module, Scope)):
            raise Incomparable(f"the bound module {type(value).__qualname__}")
        if self.is_new(value):
            if self.guards is not None:
                self.guards.attributes(value)
            self.out.append(Module)
            self.type(type(value))
            self.parts(held, _LINEN_DETAILS)


def _explore(value: Any, visit: Callable[[_Walk, Any], None], leaf: Leaf | None) -> _Memo:
    """Walk a class or function and remember what was found."""
    walk = _Walk(leaf, Guards())
    try:
        visit(walk, value)
        memo = _Memo(walk)
    except Incomparable as error:
        if not error.lasts:
            raise
        memo = _Memo(walk, error)
    return memo


_PLAIN = frozenset({type(None), bool, int, str, bytes, type(...), type(NotImplemented)})
_MADE_AT_RUN_TIME = 1 << 9  # Py_TPFLAGS_HEAPTYPE: every class of Python's own has it
# What tells nothing about what a class, function or object does.
_DETAILS = frozenset({"__annotations__", "__annotate__", "__doc__", "__type_params__"})
_CLASS_DETAILS = _DETAILS | {
    "__dict__",
    "__weakref__",
    "_abc_impl",
    "__dataclass_params__",
    "__annotate_func__",
    "__annotations_cache__",
    "__firstlineno__",
    "__static_attributes__",
    # of Flax's modules, which hold their own
    "_id",
    "_state",
    "_parent_ref",
}
# What Flax keeps on a module beside what the module is given.
_LINEN_DETAILS = frozenset({"_id", "_state", "_parent_ref", "parent", "scope"})
_CONTENT: dict[Any, Callable[[Any], Any]] = {
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


def _is_in_c(cls: type) -> bool:
    """Tell whether a class has methods written in C, as none has that Python makes."""
    kinds = (types.MethodDescriptorType, types.WrapperDescriptorType)
    return any(isinstance(p, kinds) and p.__objclass__ is cls for p in cls.__dict__.values())


_MUTABLE = frozenset({list, set, collections.deque})


def _array_content(value: np.ndarray[Any, Any]) -> tuple[Any, ...]:
    return value.dtype, value.shape, value.flags.writeable, value.tobytes()


def _misses(value: Any) -> int:
    return value.cache_info().misses


def _slots(descriptors: list[Any], value: Any) -> tuple[Any, ...]:
    return (type(value), *(_slot(descriptor, value) for descriptor in descriptors))


def _slot(descriptor: Any, value: Any) -> Any:
    try:
        return descriptor.__get__(value)
    except AttributeError:
        return _Mark.UNBOUND


class _Layout:
    """Where the instances of a class keep what they hold.

    Args:
        cls: the class.
    """

    def __init__(self, cls: type) -> None:
        bases = [base for base in cls.__mro__ if base in _CONTENT or base is dict]
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


_layouts: Recent[_Layout] = Recent(1024)


def _layout_of(cls: type) -> _Layout:
    return _layouts.get(cls) or _layouts.put(cls, _Layout(cls))


_class_names: Recent[str] = Recent(4096)
_SIGNATURES = (inspect.Signature, inspect.Parameter, inspect.Signature.empty)


def _exported_class(cls: type) -> str | None:
    """Return the full name of a class that a trusted module holds."""
    name = _class_names.get(cls)
    if name is None and (name := exported(cls)) is not None:
        _class_names.put(cls, name)
    return name


def _exported_value(value: Any) -> str | None:
    """Return the full name of an object that a trusted module holds by the name it has itself."""
    try:
        return exported(value)
    except Exception:
        return None  # an attribute that raises something of its own


class _How:
    """How values of one type are written, and whether `leaf` is asked about them."""

    __slots__ = ("asked", "visit")

    def __init__(self, visit: Callable[[_Walk, Any], None], *, asked: bool = True) -> None:
        self.visit = visit
        self.asked = asked


def _table() -> Iterator[tuple[Any, _How]]:
    """Yield how values of exactly these types are written."""
    plain = functools.partial(_How, asked=False)
    yield float, plain(_Walk.real)
    yield complex, plain(_Walk.complex)
    yield range, plain(_Walk.range)
    yield type, plain(_Walk.type)
    for cls in (tuple, frozenset):
        yield cls, _How(_Walk.sequence)
    for cls in (list, set, collections.deque):
        yield cls, _How(_Walk.list)
    for cls in (dict, collections.OrderedDict, collections.defaultdict):
        yield cls, _How(_Walk.dict)
    yield types.MappingProxyType, _How(_Walk.proxy)
    yield dataclasses.Field, plain(_Walk.field)
    yield FrozenDict, _How(_Walk.frozen)
    yield slice, _How(_Walk.slice)
    yield np.ndarray, _How(_Walk.array)
    yield types.CellType, plain(_Walk.cell)
    yield types.FunctionType, _How(_Walk.top_function)
    yield types.MethodType, _How(_Walk.method)
    for cls in _BUILTIN_FUNCTIONS:
        yield cls, plain(_Walk.builtin)
    for cls in (types.GetSetDescriptorType, types.MemberDescriptorType, _TUPLE_GETTER):
        yield cls, plain(_Walk.same)
    yield np.ufunc, plain(_Walk.ufunc)
    for cls in _PARTS:
        yield cls, _How(_Walk.holder, asked=cls is functools.partial)
    for cls in (operator.attrgetter, operator.itemgetter, operator.methodcaller):
        yield cls, _How(_Walk.reduced)
    yield type(functools.lru_cache(lambda: None)), _How(_Walk.cached)
    yield type(jax.jit(lambda: None)), _How(_Walk.jitted)
    yield inspect.Signature, plain(_Walk.signature)
    yield Rule, plain(_Walk.rule)
    for cls in (types.GenericAlias, types.UnionType):
        yield cls, plain(_Walk.same)


_BUILTIN_FUNCTIONS = (
    types.BuiltinFunctionType,
    types.WrapperDescriptorType,
    types.MethodWrapperType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
    type(np.sum),
)
_TUPLE_GETTER: type = type(vars(inspect.FullArgSpec)["args"])
_PARTS: dict[type, tuple[str, ...]] = {
    property: ("fget", "fset", "fdel"),
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
    functools.partial: ("func", "args", "keywords"),
    functools.cached_property: ("func", "attrname"),
}
_HOW: dict[type, _How] = {}
# Immutable, and equal where they are the same.
_VALUES = (
    np.dtype,
    jax.sharding.Sharding,
    jax.sharding.PartitionSpec,
    jax.sharding.Mesh,
    jax.sharding.AbstractMesh,
)


def _how(kind: type) -> _How:
    """Find how values of a type are written."""
    return _kinds.get(kind) or _kinds.put(kind, _choose(kind))


_kinds: Recent[_How] = Recent(1024)


def _choose(kind: type) -> _How:
    if issubclass(kind, type):
        return _How(_Walk.type, asked=False)
    if issubclass(kind, types.ModuleType):
        return _How(_Walk.module, asked=False)
    if issubclass(kind, (Tracer, Scope, Variable)):
        return _How(_Walk.refuse)
    if issubclass(kind, jax.Array):
        return _How(_Walk.same)
    if issubclass(kind, Module):
        return _How(_Walk.linen)
    if issubclass(kind, enum.Enum):
        return _How(_Walk.member)
    if issubclass(kind, np.generic) and kind.__module__ == "numpy":
        return _How(_Walk.scalar, asked=False)
    if issubclass(kind, _VALUES):
        return _How(_Walk.by_value)
    if issubclass(kind, (jax.Device, jax.tree_util.PyTreeDef)) or kind.__module__ == "typing":
        return _How(_Walk.same)
    return _How(_Walk.object)


_HOW.update(_table())
