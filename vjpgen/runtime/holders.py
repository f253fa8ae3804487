"""Python values that hold others: what is in them, and how to make one anew around other parts.

Each kind is a `Holder`. Functions are taken apart at their closures and defaults, containers at
their items, objects at their attributes; wrappers such as `functools.lru_cache` at what they wrap.
"""

from __future__ import annotations

import collections
import copy
import dataclasses
import dis
import functools
import threading
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import jax
import numpy as np
from flax.core.scope import Scope, Variable
from flax.linen.module import Module

from vjpgen.runtime.leaves import below, path_text
from vjpgen.runtime.rule import RULE, cell_content, own_rule
from vjpgen.runtime.wrapping import wrap

Parts = list[tuple[str, Any]]


class Rebuild(Protocol):
    """One rebuilding of values that hold each other."""

    def __call__(self, value: Any, /) -> Any:
        """Return a value with what it holds replaced; what needs no change, as it is."""
        ...

    def changes(self, value: Any, /) -> bool:
        """Tell whether a value is replaced."""
        ...

    def cell(self, function: types.FunctionType, name: str, cell: types.CellType) -> Any:
        """Return what to rebuild for a captured name; `KEEP` where the cell is shared."""
        ...

    def announce(self, new: Any, /) -> None:
        """Tell the new value before its parts are rebuilt, which may refer to it."""


@dataclasses.dataclass(frozen=True)
class Holder:
    """A kind of value that holds others.

    Args:
        parts: lists what a value holds, each with words for it; it is given words for the value.
        make: makes a value like the given one around rebuilt parts.
    """

    parts: Callable[[Any, str], Parts]
    make: Callable[[Any, Rebuild], Any]


def holder_of(value: Any) -> Holder | None:
    """Return the kind of a value; None for one that holds nothing, or that cannot be opened."""
    if value is None or isinstance(value, _PLAIN):
        return None
    if isinstance(value, types.FunctionType):
        if own_rule(value) is not None:
            return _RULE
        closed = value.__closure__ is None and value.__defaults__ is None
        plain = closed and value.__kwdefaults__ is None and not value.__dict__
        return None if plain else _FUNCTION
    for kind, holder in _KINDS:
        if isinstance(value, kind):
            return holder
    if is_jitted(value):
        return _WRAPPER
    if type(value) in _COLLECTIONS:
        return _COLLECTIONS[type(value)]
    if isinstance(value, (dict, list)):
        return _SUBCLASS
    if _is_object(value):
        return _OBJECT
    return None if jax.tree_util.all_leaves([value]) else _PYTREE


def is_plain(value: Any) -> bool:
    """Tell a value that holds nothing, quickly."""
    return value is None or isinstance(value, _PLAIN)


def hides_values(value: Any, holder: Holder | None) -> bool:
    """Tell a callable that may hold what cannot be found in it, as one that is made in C."""
    if holder not in (None, _OBJECT) or not callable(value) or _is_of(value, "jax"):
        return False
    plain = (type, types.FunctionType, types.BuiltinFunctionType, Module, np.ufunc)
    if isinstance(value, plain):
        return False
    return holder is None or not any(callable(part) for part in _attributes(value).values())


def is_jitted(value: Any) -> bool:
    """Tell what `jax.jit` made."""
    return type(value) is type(_jitted) and hasattr(value, "__wrapped__")


def local_class(value: Any) -> type | None:
    """Return the class that a value is or has, if it was made in a function."""
    found = value if isinstance(value, type) else type(value)
    return found if any("<locals>" in base.__qualname__ for base in found.__mro__) else None


def class_attributes(made: type) -> Iterator[tuple[type, str, Any]]:
    """Yield the attributes that a class made in a function got there."""
    for base in made.__mro__:
        if "<locals>" in base.__qualname__:
            for name, value in list(vars(base).items()):
                if isinstance(value, types.FunctionType) or not name.startswith("__"):
                    yield base, name, value


@functools.lru_cache(maxsize=4096)
def stored_names(code: types.CodeType) -> frozenset[str]:
    """Return the captured names that a function, or one inside it, binds anew."""
    steps = dis.get_instructions(code)
    stored = {s.argval for s in steps if s.opname in ("STORE_DEREF", "DELETE_DEREF")}
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            stored |= stored_names(inner)
    return frozenset(stored.intersection(code.co_freevars))


_PLAIN = (str, bytes, int, float, complex, type, types.ModuleType, np.ndarray, np.generic)
KEEP = object()
_jitted = jax.jit(lambda: None)


def _is_of(value: Any, *libraries: str) -> bool:
    return type(value).__module__.partition(".")[0] in libraries


# -- functions, and what wraps them -----------------------------------------------------------


def _function_parts(function: types.FunctionType, name: str) -> Parts:
    del name
    code, defaults = function.__code__, function.__defaults__ or ()
    contents = [cell_content(cell) for cell in function.__closure__ or ()]
    parts = list(zip(code.co_freevars, contents, strict=True))
    first = code.co_argcount - len(defaults)
    parts += zip(code.co_varnames[first : code.co_argcount], defaults, strict=True)
    return [*parts, *(function.__kwdefaults__ or {}).items(), *function.__dict__.items()]


def _make_function(function: types.FunctionType, rebuild: Rebuild) -> Any:
    """Copy a function; it shares the cells whose contents stay as they are."""
    cells = function.__closure__ or ()
    names = function.__code__.co_freevars
    contents = [rebuild.cell(function, *pair) for pair in zip(names, cells, strict=True)]
    _refuse_writes(function, [content is not KEEP for content in contents])
    fresh = tuple(
        cell if content is KEEP else types.CellType()
        for cell, content in zip(cells, contents, strict=True)
    )
    twin = types.FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        None,
        fresh if function.__closure__ is not None else None,
    )
    rebuild.announce(twin)
    twin.__dict__.update((name, rebuild(item)) for name, item in function.__dict__.items())
    twin.__qualname__ = function.__qualname__
    twin.__module__ = function.__module__
    twin.__doc__ = function.__doc__
    twin.__annotations__ = function.__annotations__
    for cell, content in zip(fresh, contents, strict=True):
        if content is not KEEP:
            cell.cell_contents = rebuild(content)
    if function.__defaults__:
        twin.__defaults__ = tuple(rebuild(item) for item in function.__defaults__)
    if function.__kwdefaults__:
        twin.__kwdefaults__ = {
            name: rebuild(item) for name, item in function.__kwdefaults__.items()
        }
    return twin


def _refuse_writes(function: types.FunctionType, changed: list[bool]) -> None:
    """Raise where a copy's `nonlocal` would be written in vain: its cell is another one."""
    names = zip(function.__code__.co_freevars, changed, strict=True)
    for name in sorted(stored_names(function.__code__) & {n for n, new in names if new}):
        raise TypeError(
            f"{function.__qualname__} binds {name!r} of the function around it anew, by nonlocal, "
            "but runs inside a custom gradient, where captured values are arguments: what it "
            "writes would be lost; return the value as an output or a residual instead"
        )


def _rule_parts(function: Any, name: str) -> Parts:
    return [(name, part) for part in getattr(function, RULE).functions()]


def _make_rule(function: Any, rebuild: Rebuild) -> Any:
    return getattr(function, RULE).rebuilt(wrap, rebuild.announce, rebuild)


def _method_parts(method: types.MethodType, name: str) -> Parts:
    return [(name, method.__func__), (method.__name__, method.__self__)]


def _make_method(method: types.MethodType, rebuild: Rebuild) -> Any:
    return types.MethodType(rebuild(method.__func__), rebuild(method.__self__))


def _partial_parts(value: functools.partial[Any], name: str) -> Parts:
    return [(name, value.func), *((name, a) for a in value.args), *value.keywords.items()]


def _make_partial(value: functools.partial[Any], rebuild: Rebuild) -> Any:
    args = [rebuild(item) for item in value.args]
    keywords = {name: rebuild(item) for name, item in value.keywords.items()}
    return type(value)(rebuild(value.func), *args, **keywords)


def _wrapped_parts(value: Any, name: str) -> Parts:
    return [(name, value.__wrapped__)]


def _unwrap(value: Any, rebuild: Rebuild) -> Any:
    """Leave a wrapper out that changes nothing inside a trace, as `jax.jit`."""
    return rebuild(value.__wrapped__)


def _make_cached(value: Any, rebuild: Rebuild) -> Any:
    """Start a cache of its own: what the other one keeps belongs to another trace."""
    return functools.lru_cache(**value.cache_parameters())(rebuild(value.__wrapped__))


def _static_parts(value: Any, name: str) -> Parts:
    return [(name, value.__func__)]


def _make_static(value: Any, rebuild: Rebuild) -> Any:
    return type(value)(rebuild(value.__func__))


def _property_parts(value: property, name: str) -> Parts:
    return [(name, part) for part in (value.fget, value.fset, value.fdel)]


def _make_property(value: property, rebuild: Rebuild) -> Any:
    return type(value)(*(rebuild(part) for part in (value.fget, value.fset, value.fdel)))


# -- containers -------------------------------------------------------------------------------


def _item_parts(items: Any, name: str) -> Parts:
    return [(f"{name}[{index}]", item) for index, item in enumerate(items)]


def _make_list(value: list[Any], rebuild: Rebuild) -> Any:
    twin: list[Any] = []
    rebuild.announce(twin)
    twin.extend(rebuild(item) for item in value)
    return twin


def _make_items(value: Any, rebuild: Rebuild) -> Any:
    return type(value)(rebuild(item) for item in value)


def _dict_parts(value: Mapping[Any, Any], name: str) -> Parts:
    return [
        (f"{name}.{key}" if isinstance(key, str) else f"{name}[{key!r}]", item)
        for key, item in value.items()
    ]


def _make_dict(value: Mapping[Any, Any], rebuild: Rebuild) -> Any:
    twin: dict[Any, Any] = {}
    rebuild.announce(twin)
    twin.update((key, rebuild(item)) for key, item in value.items())
    return twin


def _make_proxy(value: Mapping[Any, Any], rebuild: Rebuild) -> Any:
    return types.MappingProxyType({key: rebuild(item) for key, item in value.items()})


def _child_parts(tree: Any, name: str) -> Parts:
    children = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda x: x is not tree)[0]
    return [(below(name, path_text(path)), child) for path, child in children]


def _make_tree(tree: Any, rebuild: Rebuild) -> Any:
    return jax.tree_util.tree_map(rebuild, tree, is_leaf=lambda x: x is not tree)


# -- objects ----------------------------------------------------------------------------------


def _is_object(value: Any) -> bool:
    """Tell an object whose attributes can be seen and set; JAX's and Python's are left alone."""
    if isinstance(value, (Scope, Variable, jax.Array, BaseException, threading.local)):
        return False
    if _is_of(value, "jax", "jaxlib", "builtins", "functools", "typing"):
        return False
    if _is_of(value, "flax") and not dataclasses.is_dataclass(value):
        return False
    return type(getattr(value, "__dict__", None)) is dict or any(True for _ in _slots(value))


def _slots(value: Any) -> Iterator[str]:
    for base in type(value).__mro__:
        names = vars(base).get("__slots__", ())
        for name in (names,) if isinstance(names, str) else tuple(names):
            if isinstance(vars(base).get(name), types.MemberDescriptorType):
                yield name


def _attributes(value: Any) -> dict[str, Any]:
    found = {name: getattr(value, name) for name in _slots(value) if hasattr(value, name)}
    return found | getattr(value, "__dict__", {})


def _object_parts(value: Any, name: str) -> Parts:
    return [(f"{name}.{attribute}", part) for attribute, part in _attributes(value).items()]


def _make_object(value: Any, rebuild: Rebuild) -> Any:
    try:
        twin = copy.copy(value)
    except TypeError:  # its class forbids it, as pickling
        return _make_bare(value, rebuild)
    rebuild.announce(twin)
    for name, part in _attributes(value).items():
        if rebuild.changes(part):
            object.__setattr__(twin, name, rebuild(part))
    return twin


def _make_bare(value: Any, rebuild: Rebuild) -> Any:
    """Copy an object whose class does not let itself be copied."""
    twin = object.__new__(type(value))
    rebuild.announce(twin)
    for name, part in _attributes(value).items():
        object.__setattr__(twin, name, rebuild(part))
    return twin


def _subclass_parts(value: Any, name: str) -> Parts:
    items = _dict_parts(value, name) if isinstance(value, dict) else _item_parts(value, name)
    return [*items, *_object_parts(value, name)]


def _make_subclass(value: Any, rebuild: Rebuild) -> Any:
    """Copy an instance of a class that is derived from `dict` or `list`."""
    twin = _make_object(value, rebuild)
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        if rebuild.changes(item):
            (dict if isinstance(value, dict) else list).__setitem__(twin, key, rebuild(item))
    return twin


def _unbound_module_parts(module: Module, name: str) -> Parts:
    if module.scope is not None:
        return []
    fields = dataclasses.fields(module)  # pyright: ignore[reportArgumentType]
    names = [field.name for field in fields if field.init and field.name not in ("parent", "name")]
    return [(f"{name}.{field}", getattr(module, field, None)) for field in names]


def _make_unbound_module(module: Module, rebuild: Rebuild) -> Any:
    """Copy a module without making one anew: its `__post_init__` has run."""
    twin = copy.copy(module)
    object.__setattr__(twin, "_state", copy.copy(module._state))
    for name, part in _unbound_module_parts(module, ""):
        if rebuild.changes(part):
            object.__setattr__(twin, name[1:], rebuild(part))
    return twin


_RULE = Holder(_rule_parts, _make_rule)
_FUNCTION = Holder(_function_parts, _make_function)
_WRAPPER = Holder(_wrapped_parts, _unwrap)
_SUBCLASS = Holder(_subclass_parts, _make_subclass)
_PYTREE = Holder(_child_parts, _make_tree)
_OBJECT = Holder(_object_parts, _make_object)
_BARE = Holder(_object_parts, _make_bare)
_ITEMS = Holder(_item_parts, _make_items)
_KINDS: tuple[tuple[type, Holder], ...] = (
    (types.MethodType, Holder(_method_parts, _make_method)),
    (functools.partial, Holder(_partial_parts, _make_partial)),
    (type(functools.lru_cache(lambda: None)), Holder(_wrapped_parts, _make_cached)),
    (staticmethod, Holder(_static_parts, _make_static)),
    (classmethod, Holder(_static_parts, _make_static)),
    (property, Holder(_property_parts, _make_property)),
    (jax.custom_jvp, _BARE),
    (jax.custom_vjp, _BARE),
    (type(jax.custom_vjp(lambda: None)), _BARE),
    (np.vectorize, _OBJECT),
    (Module, Holder(_unbound_module_parts, _make_unbound_module)),
)
_COLLECTIONS: dict[type, Holder] = {
    tuple: _ITEMS,
    list: Holder(_item_parts, _make_list),
    dict: Holder(_dict_parts, _make_dict),
    types.MappingProxyType: Holder(_dict_parts, _make_proxy),
    set: _ITEMS,
    frozenset: _ITEMS,
    collections.deque: _ITEMS,
}
