"""Values that functions have captured, taken out and put back in as arguments.

A rule may close over arrays of the function around it. `jax.custom_vjp` cannot see those, so a
traced one would leak. Here they are found in the closures, become operands, and each run gets
copies of the functions whose closure cells hold that run's values.
"""

from __future__ import annotations

import copy
import dataclasses
import dis
import functools
import types
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax.core.scope import Scope, Variable
from flax.linen.module import Module
from jax.core import Tracer

from vjpgen.runtime.leaves import Constant, Indexed, Operands, Packed, flatten
from vjpgen.runtime.modules import ModuleSet, bound_scope
from vjpgen.runtime.rule import RULE
from vjpgen.runtime.wrapping import wrap


@dataclasses.dataclass
class Captures:
    """What some functions have captured, directly or through other functions.

    Args:
        operands: where captured arrays go.
        modules: where captured modules go.
    """

    operands: Operands
    modules: ModuleSet
    _kept: dict[int, Any] = dataclasses.field(default_factory=dict)
    _edges: dict[int, list[int]] = dataclasses.field(default_factory=dict)
    _arrays: dict[int, int] = dataclasses.field(default_factory=dict)
    _bound: dict[int, int] = dataclasses.field(default_factory=dict)
    _changed: set[int] = dataclasses.field(default_factory=set)
    _observing: bool = False

    def scan_observer(self, function: Any) -> frozenset[int]:
        """Scan an interceptor; lists and dicts of modules, which it may fill, stay its own."""
        self._observing = True
        try:
            return self.scan(function)
        finally:
            self._observing = False

    def scan(self, function: Any) -> frozenset[int]:
        """Find what a function, or any value, has captured; return the operands it reaches."""
        if not _may_hold_values(function):
            return frozenset()
        self._visit(function, "", None)
        return self.reach(function)

    def scan_constants(self, trees: Sequence[Packed]) -> None:
        """Scan what is not traced in some packed trees and in the fields of all modules."""
        for tree in trees:
            for entry in tree.entries:
                if isinstance(entry, Constant):
                    self.scan(entry.value)
        scanned = 0
        while scanned < len(self.modules.entries):  # a scan can find further modules
            constants = self.modules.constants(scanned)
            scanned = len(self.modules.entries)
            for constant in constants:
                self.scan(constant)

    def settle(self) -> None:
        """Mark all that holds, however deep, something to replace; after the last scan."""
        self._changed = {*self._arrays, *self._bound}
        grown = bool(self._changed)
        while grown:
            grown = False
            for key, parts in self._edges.items():
                if key not in self._changed and any(part in self._changed for part in parts):
                    self._changed.add(key)
                    grown = True

    def release(self) -> None:
        """Let go of everything, where nothing has to be replaced."""
        if not self._changed:
            self._kept.clear()
            self._edges.clear()

    def rebuild(self, function: Any, arrays: Indexed, built: Indexed) -> Any:
        """Return `function` with `arrays` and the modules `built` in place of what it captured."""
        if id(function) not in self._changed:
            return function
        return _Rebuild(self, arrays, built).value(function)

    def _visit(self, value: Any, name: str, user: types.FunctionType | None) -> None:
        """Record one value; `user` is the function that holds it under `name`."""
        key = id(value)
        if isinstance(value, jax.Array):
            if key not in self._arrays:
                self._kept[key] = value
                self._arrays[key] = self.operands.add(value, f"captured value {name!r}").index
            return
        if bound_scope(value) is not None:
            if not _reads_fields_only(value, name, user):
                bound = self.modules.bind(value)
                assert bound is not None
                self._kept[key] = value
                self._bound[key] = bound.index
            return
        if key in self._edges or not _may_hold_values(value):
            return
        if self._observing and type(value) in (list, dict) and not _holds_tracer(value):
            return
        self._kept[key] = value
        self._edges[key] = edges = []
        holder = value if isinstance(value, types.FunctionType) else user
        for label, part in _parts(value):
            edges.append(id(part))
            self._visit(part, label or name, holder)

    def reach(self, value: Any) -> frozenset[int]:
        """Return the operands that a scanned value holds, however deep."""
        return frozenset(self._arrays[key] for key in self._below(value) if key in self._arrays)

    def holds_module(self, value: Any) -> bool:
        """Tell whether a scanned value holds a bound module, however deep."""
        return bool(self._bound) and any(key in self._bound for key in self._below(value))

    def _below(self, value: Any) -> set[int]:
        """Return what a scanned value holds, itself included, by identity."""
        seen: set[int] = set()
        todo = [id(value)]
        while todo:
            key = todo.pop()
            if key not in seen:
                seen.add(key)
                todo.extend(self._edges.get(key, ()))
        return seen


def holds_traced(function: Any) -> bool:
    """Tell whether an interceptor has captured a traced value or a bound module, however deep."""
    operands = Operands()
    modules = ModuleSet(operands)
    Captures(operands, modules).scan_observer(function)
    return bool(modules.entries) or any(isinstance(array, Tracer) for array in operands.arrays)


@dataclasses.dataclass
class _Rebuild:
    """One rebuilding of captured values; functions that capture each other stay linked."""

    captures: Captures
    arrays: Indexed
    built: Indexed
    done: dict[int, Any] = dataclasses.field(default_factory=dict)

    def value(self, value: Any) -> Any:
        key = id(value)
        captures = self.captures
        if key not in captures._changed:
            return value
        if key in captures._arrays:
            return self.arrays[captures._arrays[key]]
        if key in captures._bound:
            return self.built[captures._bound[key]]
        if key not in self.done:
            self._make(key, value)
        return self.done[key]

    def _make(self, key: int, value: Any) -> None:
        rule = getattr(value, RULE, None)
        if rule is not None and isinstance(value, types.FunctionType):
            self.done[key] = rule.rebuilt(
                wrap, lambda new: self.done.__setitem__(key, new), self.value
            )
        elif isinstance(value, types.FunctionType):
            self._function(key, value)
        elif isinstance(value, types.MethodType):
            self.done[key] = types.MethodType(
                self.value(value.__func__), self.value(value.__self__)
            )
        elif isinstance(value, functools.partial):
            self.done[key] = type(value)(
                self.value(value.func),
                *[self.value(item) for item in value.args],
                **{name: self.value(item) for name, item in value.keywords.items()},
            )
        elif _is_jitted(value):
            self.done[key] = self.value(value.__wrapped__)  # jit is transparent inside a trace
        elif _is_plain_object(value):
            self.done[key] = twin = copy.copy(value)
            for name, item in vars(value).items():
                object.__setattr__(twin, name, self.value(item))
        elif type(value) is list:
            self.done[key] = twin = []
            twin.extend(self.value(item) for item in value)
        elif type(value) is dict:
            self.done[key] = twin = {}
            twin.update((name, self.value(item)) for name, item in value.items())
        else:
            self.done[key] = jax.tree_util.tree_map(self.value, value)

    def _function(self, key: int, function: types.FunctionType) -> None:
        cells = []
        fresh: list[tuple[types.CellType, Any]] = []
        for cell in function.__closure__ or ():
            content = _content(cell)
            if id(content) in self.captures._changed:
                new = types.CellType()
                fresh.append((new, content))
                cells.append(new)
            else:
                cells.append(cell)
        twin = types.FunctionType(
            function.__code__,
            function.__globals__,
            function.__name__,
            None,
            tuple(cells) if function.__closure__ is not None else None,
        )
        self.done[key] = twin
        twin.__dict__.update(function.__dict__)
        twin.__qualname__ = function.__qualname__
        twin.__module__ = function.__module__
        twin.__doc__ = function.__doc__
        twin.__annotations__ = function.__annotations__
        for cell, content in fresh:
            cell.cell_contents = self.value(content)
        if function.__defaults__:
            twin.__defaults__ = tuple(self.value(item) for item in function.__defaults__)
        if function.__kwdefaults__:
            twin.__kwdefaults__ = {
                name: self.value(item) for name, item in function.__kwdefaults__.items()
            }


_EMPTY = object()
_PLAIN = (str, bytes, int, float, complex, type, types.ModuleType, np.ndarray, np.generic)
_LIBRARIES = ("jax", "jaxlib", "flax", "numpy")
_jitted = jax.jit(lambda: None)


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not bound yet
        return _EMPTY


def _may_hold_values(value: Any) -> bool:
    if value is None or isinstance(value, _PLAIN):
        return False
    if isinstance(value, types.FunctionType):
        return bool(value.__closure__ or value.__defaults__ or value.__kwdefaults__)
    if isinstance(value, (types.MethodType, functools.partial)) or _is_jitted(value):
        return True
    if type(value) in (list, dict):
        return bool(value)
    return _is_plain_object(value) or not jax.tree_util.all_leaves([value])


def _is_jitted(value: Any) -> bool:
    return type(value) is type(_jitted) and hasattr(value, "__wrapped__")


def _is_plain_object(value: Any) -> bool:
    """Tell an object of the user's that holds a tracer; one without is left as it is."""
    if isinstance(value, (Module, Scope, Variable)) or callable(getattr(value, "lower", None)):
        return False
    fields = getattr(value, "__dict__", None)
    if type(fields) is not dict or type(value).__module__.partition(".")[0] in _LIBRARIES:
        return False
    if isinstance(value, types.FunctionType) or not jax.tree_util.all_leaves([value]):
        return False
    return _holds_tracer(fields)


def _holds_tracer(tree: Any) -> bool:
    return any(isinstance(x, Tracer) for _, x in flatten(tree)[0])


def _parts(value: Any) -> list[tuple[str, Any]]:
    rule = getattr(value, RULE, None)
    if rule is not None and isinstance(value, types.FunctionType):
        return [("", part) for part in rule.functions()]
    if isinstance(value, types.FunctionType):
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        parts = [(name, _content(cell)) for name, cell in cells]
        parts += [("", item) for item in value.__defaults__ or ()]
        return parts + list((value.__kwdefaults__ or {}).items())
    if isinstance(value, types.MethodType):
        return [("", value.__func__), (value.__name__, value.__self__)]
    if isinstance(value, functools.partial):
        return [("", value.func), *(("", a) for a in value.args), *value.keywords.items()]
    if _is_jitted(value):
        return [("", value.__wrapped__)]
    if _is_plain_object(value):
        return list(vars(value).items())
    if type(value) is dict:
        return [("", item) for item in value.values()]
    if type(value) is list:
        return [("", item) for item in value]
    return [("", leaf) for _, leaf in flatten(value)[0]]


def _reads_fields_only(value: Any, name: str, user: types.FunctionType | None) -> bool:
    """Tell whether a function uses a captured module only for plain fields, as `self.features`.

    Such a module needs no lifting: nothing of its scope is touched.
    """
    if not isinstance(value, Module) or user is None or isinstance(value, Variable):
        return False
    fields = value.__dataclass_fields__
    plain = {
        field
        for field in fields
        if field not in ("parent", "name") and _is_plain(getattr(value, field, None))
    }
    return _loads_only(user.__code__, name, plain)


def _is_plain(value: Any) -> bool:
    return not any(isinstance(x, (jax.Array, Module, Variable)) for _, x in flatten(value)[0])


def _loads_only(code: types.CodeType, name: str, attributes: set[str]) -> bool:
    """Tell whether `code` uses the captured `name` only to read one of `attributes`."""
    if name not in code.co_freevars:
        return False
    steps = [step for step in dis.get_instructions(code) if step.opname != "CACHE"]
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        if step.argval != name or step.opname in ("COPY_FREE_VARS", "MAKE_CELL"):
            continue
        if step.opname == "LOAD_CLOSURE" or step.opname == "LOAD_FAST":
            continue  # handed on to a function inside, which is looked at below
        if step.opname != "LOAD_DEREF" or following is None:
            return False
        if (
            following.opname not in ("LOAD_ATTR", "LOAD_METHOD")
            or following.argval not in attributes
        ):
            return False
    inner = [c for c in code.co_consts if isinstance(c, types.CodeType) and name in c.co_freevars]
    return all(_loads_only(c, name, attributes) for c in inner)
