"""Walks over values of every kind, and the memory of those from classes and functions."""

from __future__ import annotations

import builtins
import collections
import dataclasses
import enum
import functools
import importlib.util
import inspect
import operator
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from flax.core import FrozenDict
from flax.core.scope import Scope, Variable
from flax.linen.module import Module
from jax.core import Tracer

from vjpgen.runtime.code_reads import ANY_NAME, NAMES_ATTRIBUTE, Import, Reads, reads_of
from vjpgen.runtime.guards import Guards
from vjpgen.runtime.keys import Incomparable, Mark, Same
from vjpgen.runtime.layouts import CONTENT, MUTABLE, is_in_c, layout_of, slots_of
from vjpgen.runtime.recent import Recent
from vjpgen.runtime.rule import RULE, Rule
from vjpgen.runtime.trust import (
    CALLBACKS,
    IMPURE_BUILTINS,
    IMPURE_MEMBERS,
    NAMING,
    exported,
    is_impure_module,
    is_trusted,
    is_trusted_namespace,
)
from vjpgen.runtime.value_walks import HOW, How, Leaf, ValueWalk


class _Memo:
    """What a walk from a class or function found.

    Args:
        walk: the walk, over.
        failure: why there is no key; "" where there is one.
    """

    def __init__(self, walk: Walk, failure: str = "") -> None:
        assert walk.guards is not None
        self.guards = walk.guards
        self.guards.seal()
        self.failure = failure
        self.asked = walk.asked
        self.answered = walk.answered
        self.key = None if failure else walk.key()
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


class Walk(ValueWalk):
    """One walk over any value.

    Args:
        leaf: as for `fingerprint`.
        guards: takes in each place that is read; None where nothing will be kept.
    """

    def choose(self, kind: type) -> How:
        """Find how values of a type are written that `HOW` doesn't tell."""
        return _kinds.get(kind) or _kinds.put(kind, _choose(kind))

    def write_module(self, value: types.ModuleType, chain: tuple[str, ...] = ()) -> None:
        """Write a module, of which the attributes of a chain are read one after the other."""
        name = value.__name__
        if is_trusted(name):
            self.trusted_module(value, chain)
        elif is_impure_module(name):
            raise Incomparable(f"the module {name} has state")
        elif not chain:
            raise Incomparable(f"the module {name} is used as a value")
        else:
            self.out += (Mark.KNOWN, name)
            found = self.lookup(value.__dict__, chain[0])
            if found is Mark.UNBOUND:
                raise Incomparable(f"{name} holds no {chain[0]}")
            if isinstance(found, types.ModuleType):
                self.write_module(found, chain[1:])
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
            raise Incomparable(f"{value.__name__}.{chain[0]} has state")
        if f"{value.__name__}.{chain[0]}" in NAMING:
            self.reads.add(ANY_NAME)
        found = value.__dict__.get(chain[0])
        if isinstance(found, types.ModuleType):
            self.write_module(found, chain[1:])

    def lookup(self, namespace: dict[str, Any], name: str) -> Any:
        """Return what a namespace holds by a name; `Mark.UNBOUND` for nothing."""
        found = namespace.get(name, Mark.UNBOUND)
        if self.guards is not None:
            if found is Mark.UNBOUND:
                self.guards.absence(namespace, name)
            else:
                self.guards.lookup(namespace, name, found)
        return found

    def write_function(self, value: types.FunctionType) -> None:
        """Write a function: its code, what it holds, and what the code reads."""
        trusted = is_trusted_namespace(value.__globals__)
        if trusted and (name := exported(value)) is not None:
            self.known(name, value)
            return
        if not self.is_new(value):
            return
        if self.guards is not None:
            self.guards.function(value)
        self.out += (Mark.FUNCTION, Same(value.__code__))
        self.out += (value.__name__, value.__qualname__, value.__module__)
        rule = value.__dict__.get(RULE)
        self.attributes(value)
        if isinstance(rule, Rule) and trusted:
            return  # the wrapper around a rule holds nothing else
        self.visit_all(tuple, value.__defaults__ or ())
        if value.__kwdefaults__:
            self.items(dict, value.__kwdefaults__)
        for cell in value.__closure__ or ():
            self.visit(cell)
        if not trusted:
            self.code(reads_of(value.__code__), value)

    def code(self, reads: Reads, function: types.FunctionType) -> None:
        """Write what code reads from its module and from others."""
        namespace = function.__globals__
        place = (id(namespace), reads)
        if place in self._namespaces:
            self.out.append(Mark.READ)
            return
        self._namespaces.add(place)
        self.reads.add(reads)
        if reads.impure:
            raise Incomparable(reads.impure)
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
        if found is Mark.UNBOUND:
            found = self.lookup(function.__builtins__, name)
            if name in IMPURE_BUILTINS or (
                name == "hash" and not reads.function.endswith("__hash__")
            ):
                message = f"{reads.function} uses {name}"
                raise Incomparable(message)
        if found is Mark.UNBOUND:
            self.out.append(found)  # it raises NameError, or is a name of a class body
        elif name in NAMES_ATTRIBUTE and found is getattr(builtins, name):
            self.same(found)  # which names it is given was read off the code
        elif isinstance(found, types.ModuleType):
            for chain in chains:
                self.write_module(found, chain)
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
            self.write_module(module)
            return
        for part in statement.names:
            submodule = sys.modules.get(f"{name}.{part}")
            if part not in module.__dict__ and submodule is not None:
                self.write_module(submodule)
            else:
                self.write_module(module, (part,))

    def known(self, name: str, value: Any) -> None:
        """Write something that a trusted module or `builtins` holds by its name."""
        module, _, member = name.rpartition(".")
        if module == "builtins" and member in IMPURE_BUILTINS:
            raise Incomparable(f"the function {member}")
        if name in NAMING:
            self.reads.add(ANY_NAME)
        if member in CALLBACKS:
            raise Incomparable(f"{name} runs a function later")
        if member in IMPURE_MEMBERS.get(module, ()):
            raise Incomparable(f"{name} has state")
        self.same(value)

    def write_builtin(self, value: Any) -> None:
        """Write a function written in C: a module's, a type's, or an object's."""
        owner = getattr(value, "__self__", getattr(value, "__objclass__", None))
        if (name := exported(value)) is not None:
            self.known(name, value)
        elif isinstance(owner, types.ModuleType) or owner is None:
            raise Incomparable(f"the function {value.__name__} of {value.__module__}")
        else:
            self.out += (types.BuiltinFunctionType, value.__name__)
            self.visit(owner)

    def write_ufunc(self, value: np.ufunc) -> None:
        """Write a function of NumPy over elements; one made of a Python function hides it."""
        homes = [sys.modules.get(name) for name in ("numpy", "scipy.special")]
        if not any(getattr(home, value.__name__, None) is value for home in homes):
            self.refuse(value)
        self.same(value)

    def write_holder(self, value: Any) -> None:
        """Write a thing that holds functions or values under fixed names, such as a property."""
        if self.is_new(value):
            names = _PARTS[type(value)]
            self.visit_all(type(value), (getattr(value, name) for name in names))
            if hasattr(value, "__dict__"):
                self.attributes(value)

    def write_partial(self, value: functools.partial[Any]) -> None:
        """Write a partial function."""
        if self.is_new(value):
            self.out.append(functools.partial)
            self.write_type(type(value))
            self.visit_all(tuple, (value.func, value.args, value.keywords))
            self.attributes(value)

    def write_method(self, value: types.MethodType) -> None:
        """Write a bound method."""
        self.out.append(types.MethodType)
        self.visit(value.__func__)
        self.visit(value.__self__)

    def write_reduced(self, value: Any) -> None:
        """Write one of `operator`'s getters."""
        if not isinstance(value, operator.itemgetter):
            self.reads.add(ANY_NAME)
        self.visit_all(type(value), value.__reduce__()[1:])

    def write_cached(self, value: Any) -> None:
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

    def write_jitted(self, value: Any) -> None:
        """Write a function under `jax.jit`: which it is, as its options are hidden."""
        if (name := exported(value)) is not None:
            self.known(name, value)
        elif self.is_new(value):
            if self.guards is not None:
                self.guards.attributes(value)
            self.same(value)
            self.visit(value.__wrapped__)  # a copy of one has none, and hides its function

    def write_signature(self, value: inspect.Signature) -> None:
        """Write a signature, without annotations."""
        self.out += (inspect.Signature, len(value.parameters))
        for parameter in value.parameters.values():
            self.out += (parameter.name, int(parameter.kind), parameter.default is parameter.empty)
            if parameter.default is not parameter.empty:
                self.visit(parameter.default)

    def write_rule(self, value: Rule) -> None:
        """Write a rule."""
        if self.guards is not None or "<locals>" in value.name or self.place(id(value)):
            self.rule_parts(value)
        else:
            self.remembered(value, Walk.rule_parts, value.name)

    def rule_parts(self, value: Rule) -> None:
        """Write all of a rule that a call makes use of."""
        if self.is_new(value):
            self.out.append(Rule)
            for field in dataclasses.fields(value):  # not what is computed of them
                if field.name not in ("claims", "example"):
                    self.visit(getattr(value, field.name))

    def write_type(self, value: type) -> None:
        """Write a class: which it is, and what it and its bases hold."""
        if (name := _exported_class(value)) is not None:
            self.known(name, value)
            return
        if self.guards is not None or self.place(id(value)) is not None:
            self.class_parts(value)
        else:
            self.remembered(value, Walk.class_parts, value.__qualname__)

    def class_parts(self, value: type) -> None:
        """Write a class, part by part."""
        if not self.is_new(value):
            return
        if (
            is_impure_module(value.__module__)
            and getattr(sys.modules.get(value.__module__), value.__name__, None) is value
        ):
            raise Incomparable(f"the class {value.__module__}.{value.__qualname__}")
        if is_in_c(value):
            raise Incomparable(f"the class {value.__module__}.{value.__qualname__}, written in C")
        held = value.__dict__
        if self.guards is not None:
            self.guards.attributes(value)
        self.out += (Mark.CLASS, Same(value), len(value.__mro__))
        if type(value) is not type:
            self.write_type(type(value))
        self.parts(held, _CLASS_DETAILS)
        for base in value.__mro__[1:]:
            self.visit(base)

    def recall_function(self, value: types.FunctionType) -> None:
        """Write a function: from memory where it stands in a module or class."""
        is_made_anew = "<locals>" in value.__qualname__
        is_known = is_trusted_namespace(value.__globals__) and exported(value) is not None
        if self.guards is not None or is_made_anew or is_known or self.place(id(value)):
            self.write_function(value)
        else:
            self.remembered(value, Walk.write_function, value.__qualname__)

    def remembered(self, value: Any, visit: Callable[[Walk, Any], None], name: str) -> None:
        """Write what was found about a class, function or rule before, if that still holds."""
        memos = _local_memos if "<locals>" in name else _memos
        memo = memos.get(value)
        if memo is None or not memo.holds(self.leaf):
            memo = _explore(value, visit, self.leaf)
            if not memo.answered:  # what a caller's `leaf` has said, is for this call
                memos.put(value, memo)
        if memo.key is None:
            raise Incomparable(memo.failure)
        self.count += memo.count
        self.reads |= memo.key.reads
        self.loose |= memo.loose
        self.out.append(memo.key)
        # the objects in it that were met before
        places = memo.places
        known = places.keys() & self.seen
        for other in self.memos:
            known |= places.keys() & other.places
        for met in sorted(known, key=places.__getitem__):
            self.out += (Mark.ALSO, places[met], *(self.place(met) or ()))
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

    def write_object(self, value: Any) -> None:
        """Write an object of a class: the class, and what it holds."""
        cls = type(value)
        layout = layout_of(cls)
        if layout.hides:
            self.refuse(value)
        if is_trusted(cls.__module__) and (name := _exported_value(value)) is not None:
            self.known(name, value)
            return
        if not self.is_new(value):
            return
        self.out.append(Mark.OBJECT)
        self.write_type(cls)
        if layout.base in CONTENT:
            read = functools.partial(CONTENT[layout.base], value)
            content = read()
            if self.guards is not None and layout.base in MUTABLE:
                self.guards.content(read, content)
            self.visit(content)
        elif layout.base is dict:
            self.items(dict, value)
        if layout.slots:
            parts = slots_of(layout.slots, value)
            if self.guards is not None:
                self.guards.content(functools.partial(slots_of, layout.slots, value), parts)
            self.visit_all(tuple, parts[1:])
        if layout.has_attributes:
            self.attributes(value)

    def write_member(self, value: enum.Enum) -> None:
        """Write a member of an enumeration: which it is, and what it holds."""
        self.same(value)
        if _exported_class(type(value)) is None and self.is_new(value):
            self.write_type(type(value))
            self.attributes(value)

    def write_linen(self, value: Module) -> None:
        """Write a Linen module that isn't bound, such as a template in a field."""
        held = value.__dict__
        if held.get("scope") is not None or isinstance(value.parent, (Module, Scope)):
            raise Incomparable(f"the bound module {type(value).__qualname__}", fleeting=True)
        if self.is_new(value):
            if self.guards is not None:
                self.guards.attributes(value)
            self.out.append(Module)
            self.write_type(type(value))
            self.parts(held, _LINEN_DETAILS)


def _explore(value: Any, visit: Callable[[Walk, Any], None], leaf: Leaf | None) -> _Memo:
    """Walk a class or function and remember what was found."""
    walk = Walk(leaf, Guards())
    try:
        visit(walk, value)
        return _Memo(walk)
    except Incomparable as error:
        if error.fleeting:  # what was read of it can't be kept
            raise
        return _Memo(walk, str(error))


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


def _misses(value: Any) -> int:
    return value.cache_info().misses


_class_names: Recent[str] = Recent(4096)


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


def _table() -> Iterator[tuple[Any, How]]:
    """Yield how values of exactly these types are written."""
    plain = functools.partial(How, asked=False)
    yield float, plain(Walk.write_real)
    yield complex, plain(Walk.write_complex)
    yield range, plain(Walk.write_range)
    yield type, plain(Walk.write_type)
    for cls in (tuple, frozenset):
        yield cls, How(Walk.write_sequence)
    for cls in (list, set, collections.deque):
        yield cls, How(Walk.write_list)
    for cls in (dict, collections.OrderedDict, collections.defaultdict):
        yield cls, How(Walk.write_dict)
    yield types.MappingProxyType, How(Walk.write_proxy)
    yield dataclasses.Field, plain(Walk.write_field)
    yield FrozenDict, How(Walk.write_frozen)
    yield slice, How(Walk.write_slice)
    yield np.ndarray, How(Walk.write_array)
    yield types.CellType, plain(Walk.write_cell)
    yield types.FunctionType, How(Walk.recall_function)
    yield types.MethodType, How(Walk.write_method)
    for cls in _BUILTIN_FUNCTIONS:
        yield cls, plain(Walk.write_builtin)
    for cls in (types.GetSetDescriptorType, types.MemberDescriptorType, _TUPLE_GETTER):
        yield cls, plain(Walk.same)
    yield np.ufunc, plain(Walk.write_ufunc)
    for cls in _PARTS:
        yield cls, plain(Walk.write_holder)
    for cls in (operator.attrgetter, operator.itemgetter, operator.methodcaller):
        yield cls, How(Walk.write_reduced)
    yield type(functools.lru_cache(lambda: None)), How(Walk.write_cached)
    yield type(jax.jit(lambda: None)), How(Walk.write_jitted)
    yield inspect.Signature, plain(Walk.write_signature)
    yield Rule, plain(Walk.write_rule)
    for cls in (types.GenericAlias, types.UnionType):
        yield cls, plain(Walk.same)


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
    functools.cached_property: ("func", "attrname"),
}
# Immutable, and equal where they are the same.
_VALUES = (
    np.dtype,
    jax.sharding.Sharding,
    jax.sharding.PartitionSpec,
    jax.sharding.Mesh,
    jax.sharding.AbstractMesh,
)


_kinds: Recent[How] = Recent(1024)


def _choose(kind: type) -> How:
    if issubclass(kind, type):
        return How(Walk.write_type, asked=False)
    if issubclass(kind, types.ModuleType):
        return How(Walk.write_module, asked=False)
    if issubclass(kind, (Tracer, Scope, Variable)):
        return How(Walk.refuse_traced)
    if issubclass(kind, jax.Array):
        return How(Walk.same)
    if issubclass(kind, Module):
        return How(Walk.write_linen)
    if issubclass(kind, functools.partial):
        return How(Walk.write_partial)
    if issubclass(kind, enum.Enum):
        return How(Walk.write_member)
    if issubclass(kind, np.generic) and kind.__module__ == "numpy":
        return How(Walk.write_scalar, asked=False)
    if issubclass(kind, _VALUES):
        return How(Walk.write_by_value)
    if issubclass(kind, (jax.Device, jax.tree_util.PyTreeDef)) or kind.__module__ == "typing":
        return How(Walk.same)
    return How(Walk.write_object)


HOW.update(_table())
