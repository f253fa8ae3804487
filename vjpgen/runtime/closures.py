"""Values that functions have captured, taken out and put back in as arguments.

A rule may close over arrays of the function around it. `jax.custom_vjp` cannot see those, so a
traced one would leak. Here they are found in closures, defaults, containers and objects, become
operands. What is kept of the functions is copies that hold stand-ins, so that nothing of the
caller's trace outlives the call; each run gets copies whose closure cells hold that run's values.
Where no copy can be made - a class that was made in a function, a function that hides what it
captured - the original is changed for as long as the run takes. So it is where a variable has been
bound anew since the call: a run, which JAX may trace long after, sees it as it was then.

An array that is not traced stays where it is: nothing can differentiate or map it, and Python may
branch on it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import dis
import functools
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
from flax.linen.module import Module
from jax.core import Tracer

from vjpgen.runtime.holders import (
    KEEP,
    class_attributes,
    hides_values,
    holder_of,
    is_plain,
    local_class,
    stored_names,
)
from vjpgen.runtime.leaves import Constant, Indexed, Operands, Packed, flatten
from vjpgen.runtime.modules import ModuleSet, bound_scope, unwrap_handler
from vjpgen.runtime.rule import Rule, cell_content, own_rule

_UNBOUND = object()


@dataclasses.dataclass(frozen=True, eq=False)
class _Place:
    """Where a value stands that is exchanged during a run: a cell's content, a class attribute."""

    owner: Any
    attribute: str
    value: Any

    def read(self) -> Any:
        """Return what stands there now, as it would be set."""
        if isinstance(self.owner, type):
            return vars(self.owner)[self.attribute]
        return cell_content(self.owner, _UNBOUND)

    def write(self, content: Any) -> None:
        """Set what stands there; undo a `read`."""
        if content is _UNBOUND:
            delattr(self.owner, self.attribute)
        else:
            setattr(self.owner, self.attribute, content)


@dataclasses.dataclass(frozen=True, eq=False)
class StandIn:
    """Stands for a captured value where only its place is kept."""

    index: int
    is_module: bool


class _StandIns:
    """Gives a stand-in for each operand, or for each module."""

    def __init__(self, is_module: bool) -> None:
        self._is_module = is_module

    def __getitem__(self, index: int, /) -> Any:
        return StandIn(index, self._is_module)


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
    _husks: dict[tuple[int, str], tuple[int, Any]] = dataclasses.field(default_factory=dict)
    _lifted: set[int] = dataclasses.field(default_factory=set)
    _hiding: bool = False
    _observing: bool = False
    _places: list[_Place] = dataclasses.field(default_factory=list)
    _shared: set[int] = dataclasses.field(default_factory=set)
    _variables: dict[int, _Place] = dataclasses.field(default_factory=dict)
    _written: set[int] = dataclasses.field(default_factory=set)

    def scan(self, function: Any) -> frozenset[int]:
        """Find what a function, or any value, has captured; return the operands it reaches."""
        if is_plain(function) or _captures_nothing(function):
            return frozenset()
        self._visit(function, getattr(function, "__name__", type(function).__name__))
        return self.reach(function)

    def scan_observer(self, function: Any) -> frozenset[int]:
        """Scan an interceptor; lists and dicts of modules, which it may fill, stay its own."""
        self._observing = True
        try:
            return self.scan(function)
        finally:
            self._observing = False

    def scan_constants(self, trees: Sequence[Packed]) -> None:
        """Scan what is not traced in some packed trees and in the fields of all modules."""
        for tree in trees:
            for entry in tree.entries:
                if isinstance(entry, Constant):
                    self.scan(entry.value)
        scanned = 0
        while scanned < len(self.modules.entries):  # a scan can find further modules
            constants = self.modules.constants(scanned)
            classes = self.modules.classes(scanned)
            scanned = len(self.modules.entries)
            for constant in constants:
                self.scan(constant)
            for found in classes:
                self._visit(found, found.__name__)

    def take(self, captured: Mapping[str, Any], rule: Rule) -> None:
        """Take in what the compiler saw captured and a function hides, as one made in C does.

        Args:
            captured: the captured values, by name.
            rule: the rule whose lifted function shares the variables that hold them.
        """
        if not self._hiding or not captured:
            return
        cells = rule.cells
        husked = {key for key, _ in self._husks.values()}
        for name, value in captured.items():
            fields_only = id(value) in husked and id(value) not in self._kept
            if not fields_only and is_traced(value):
                self._visit(value, name)
                self._exchange(cells[name], "cell_contents", value)

    def seal(self) -> Callable[[Any], Any] | None:
        """Keep, from here on, copies that hold stand-ins in place of what is of the caller's trace.

        After the last scan.

        Returns:
            A function that gives for a scanned value what is kept of it, for `rebuild` to be
            given; None where all values are kept as they are.
        """
        self._mark({*self._arrays, *self._bound, *(key for key, _ in self._husks)})
        variables = {
            key: place
            for key, place in self._variables.items()
            if key not in self._written and id(place.value) not in self._changed
        }
        if not self._changed:
            self.__init__(self.operands, self.modules, _variables=variables)
            return None
        kept = _Rebuild(self, _StandIns(False), _StandIns(True), self._husks)
        copies = {key: kept(self._kept[key]) for key in self._changed if key in self._edges}
        places = [
            dataclasses.replace(place, value=copies.get(id(place.value), kept(place.value)))
            for place in self._places
            if id(place.value) in self._changed
        ]
        originals, arrays = self._kept, self._arrays  # alive: no other value gets the id of one
        self.__init__(self.operands, self.modules)
        if any(isinstance(place.owner, types.CellType) for place in places):
            self._arrays.update(arrays)  # whatever shares such a cell still finds them there
            self._kept.update((key, originals[key]) for key in arrays)
        for value in (*copies.values(), *(place.value for place in places)):
            self._visit(value, "")
        self._places = places
        self._variables = variables
        self._mark({*self._arrays, *self._bound})

        def sealed(value: Any) -> Any:
            return copies.get(id(value), value) if id(value) in originals else value

        return sealed

    def _mark(self, changed: set[int]) -> None:
        """Mark all that holds, however deep, something to replace."""
        self._changed = changed
        grown = bool(changed)
        while grown:
            grown = False
            for key, parts in self._edges.items():
                if key not in changed and any(part in changed for part in parts):
                    changed.add(key)
                    grown = True
        # whatever shares a cell that is exchanged sees the run's value there: it keeps that cell
        self._shared = {id(place.owner) for place in self._places}

    def rebuild(self, function: Any, arrays: Indexed, built: Indexed) -> Any:
        """Return `function` with `arrays` and the modules `built` in place of what it captured."""
        if id(function) not in self._changed:
            return function
        return _Rebuild(self, arrays, built)(function)

    @contextlib.contextmanager
    def exchanged(self, arrays: Indexed, built: Indexed | None) -> Iterator[None]:
        """Put a run's values where what holds them cannot be copied; afterwards, put them back.

        Variables that have been bound anew since the call have their old values meanwhile.

        Args:
            arrays: the operands.
            built: the modules; None where there are none: what needs one stays as it is.
        """
        rebound = [p for p in self._variables.values() if p.read() is not p.value]
        if not self._places and not rebound:
            yield
            return
        rebuild = _Rebuild(self, arrays, () if built is None else built)
        places = [
            place
            for place in self._places
            if built is not None or not self._reached(place.value, self._bound)
        ]
        places += rebound
        before = [place.read() for place in places]
        for place in places:
            place.write(rebuild(place.value))
        try:
            yield
        finally:
            for place, old in zip(places, before, strict=True):
                place.write(old)

    @property
    def in_place(self) -> bool:
        """Whether a run changes, for as long as it takes, what cannot be copied."""
        return bool(self._places or self._written)

    @property
    def everywhere(self) -> frozenset[int]:
        """The operands that every run needs, whatever its function reaches."""
        return frozenset(index for place in self._places for index in self.reach(place.value))

    def reach(self, value: Any) -> frozenset[int]:
        """Return the operands that a scanned value holds, however deep."""
        return frozenset(self._arrays[key] for key in self._reached(value, self._arrays))

    def holds_module(self, value: Any) -> bool:
        """Tell whether a scanned value holds a bound module, however deep."""
        return bool(self._bound) and bool(self._reached(value, self._bound))

    def _reached(self, value: Any, wanted: Mapping[int, int]) -> set[int]:
        """Return which of the values `wanted`, by identity, a scanned one holds."""
        seen: set[int] = set()
        todo = [id(value)]
        while todo:
            key = todo.pop()
            if key not in seen:
                seen.add(key)
                todo.extend(self._edges.get(key, ()))
        return seen & wanted.keys()

    def _visit(self, root: Any, name: str) -> None:
        """Record a value and all that it holds."""
        todo = [(root, name)]
        while todo:
            value, name = todo.pop()
            key = id(value)
            if key in self._kept:
                continue
            if isinstance(value, StandIn):
                self._kept[key] = value
                (self._bound if value.is_module else self._arrays)[key] = value.index
            elif isinstance(value, jax.Array):
                if isinstance(value, Tracer):
                    self._kept[key] = value
                    label = f"captured value {name!r}"
                    self._arrays[key] = self.operands.add(value, label).index
            elif bound_scope(value) is not None:
                bound = self.modules.bind(value)
                assert bound is not None
                self._kept[key] = value
                self._bound[key] = bound.index
            else:
                todo += reversed(self._open(value, name))

    def _open(self, value: Any, name: str) -> list[tuple[Any, str]]:
        """Record what a value holds directly; return that."""
        key = id(value)
        parts: list[tuple[Any, str]] = []
        made = local_class(value)
        if made is not None and id(made) not in self._kept:
            self._kept[id(made)] = made
            for owner, attribute, content in class_attributes(made):
                parts.append((content, attribute))
                self._exchange(owner, attribute, content)
        holder = holder_of(value)
        self._hiding = self._hiding or hides_values(value, holder)
        if holder is None or (self._observing and type(value) in (list, dict) and _is_own(value)):
            return parts
        self._kept[key] = value
        self._edges[key] = edges = []
        if isinstance(value, types.FunctionType):
            self._note_variables(value)
            if rule := own_rule(value):
                self._lifted.add(id(rule.lifted))
        for label, part in holder.parts(value, name):
            if key in self._lifted and bound_scope(part) is not None:
                self._husks[key, label] = id(part), None  # names it alone: that is no use
                continue
            if is_plain(part) and not isinstance(part, type):
                continue
            if isinstance(value, types.FunctionType) and isinstance(part, Module):
                husk = _husk(part, label, value)
                if husk is not None:
                    self._husks[key, label] = id(part), husk
                    continue
            edges.append(id(part))
            parts.append((part, label))
        return parts

    def _note_variables(self, function: types.FunctionType) -> None:
        """Note what variables of functions around this one are at the call; not those it writes."""
        written = stored_names(function.__code__)
        names = function.__code__.co_freevars
        for name, cell in zip(names, function.__closure__ or (), strict=True):
            content = cell_content(cell, _UNBOUND)
            if name in written:
                self._written.add(id(cell))
            elif content is not _UNBOUND and not _is_lifted(content):
                self._variables.setdefault(id(cell), _Place(cell, "cell_contents", content))

    def _exchange(self, owner: Any, attribute: str, value: Any) -> None:
        self._kept.setdefault(id(owner), owner)
        self._places.append(_Place(owner, attribute, value))


@dataclasses.dataclass
class _Rebuild:
    """One rebuilding of captured values; those that hold each other stay linked."""

    captures: Captures
    arrays: Indexed
    built: Indexed
    husks: Mapping[tuple[int, str], tuple[int, Any]] = dataclasses.field(default_factory=dict)
    done: dict[int, Any] = dataclasses.field(default_factory=dict)
    _making: list[int] = dataclasses.field(default_factory=list)

    def __call__(self, value: Any) -> Any:
        key = id(value)
        captures = self.captures
        if key not in captures._changed:
            return value
        if key in captures._arrays:
            return self.arrays[captures._arrays[key]]
        if key in captures._bound:
            return self.built[captures._bound[key]]
        if key not in self.done:
            holder = holder_of(value)
            assert holder is not None
            self._making.append(key)
            self.done[key] = holder.make(value, self)
            self._making.pop()
        return self.done[key]

    def changes(self, value: Any) -> bool:
        return id(value) in self.captures._changed

    def cell(self, function: types.FunctionType, name: str, cell: types.CellType) -> Any:
        husk = self.husks.get((id(function), name))
        if husk is not None:
            return husk[1]
        content = cell_content(cell)
        return content if id(cell) not in self.captures._shared and self.changes(content) else KEEP

    def announce(self, new: Any) -> None:
        self.done[self._making[-1]] = new


def _captures_nothing(function: Any) -> bool:
    """Tell at a glance what most methods are: functions of a module that hold nothing."""
    if type(function) is not types.FunctionType:  # a bound method has its function's attributes
        return False
    inner = unwrap_handler(function)
    return (
        type(inner) is types.FunctionType
        and inner.__closure__ is None
        and inner.__defaults__ is None
        and inner.__kwdefaults__ is None
        and all(value is True for value in inner.__dict__.values())  # Flax's `compact`
    )


def is_traced(root: Any) -> bool:
    """Tell whether a value is or holds, however deep, something of a trace."""
    seen: dict[int, Any] = {}
    todo = [root]
    while todo:
        value = todo.pop()
        if isinstance(value, Tracer) or bound_scope(value) is not None:
            return True
        if id(value) in seen or is_plain(value) or isinstance(value, jax.Array):
            continue
        seen[id(value)] = value
        holder = holder_of(value)
        if holder is not None:
            todo += [part for _, part in holder.parts(value, "")]
    return False


def _is_lifted(content: Any) -> bool:
    """Tell what is taken from where it stands, to be passed explicitly."""
    return isinstance(content, Tracer) or bound_scope(content) is not None


def _is_own(items: Any) -> bool:
    """Tell whether a list or dict holds nothing traced, though perhaps modules."""
    return not any(isinstance(leaf, Tracer) for _, leaf in flatten(items)[0])


def _husk(module: Module, name: str, user: types.FunctionType) -> Any:
    """Return a module with the plain fields alone, as `self.features`, that a function reads.

    None where the function uses more of the module than that. A husk needs no lifting: nothing of
    the scope is touched.
    """
    if bound_scope(module) is None:
        return None
    read = _attributes_read(user.__code__, name)
    if read is None:
        return None
    fields = module.__dataclass_fields__.keys() - {"parent", "name"}
    husk = object.__new__(type(module))
    for field in read:
        value = getattr(module, field, None)
        if field not in fields or _holds_array(value):
            return None
        object.__setattr__(husk, field, value)
    return husk


def _holds_array(field: Any) -> bool:
    found = (isinstance(x, jax.Array) for x in jax.tree_util.tree_leaves(field))
    return is_traced(field) or any(found)


@functools.lru_cache(maxsize=4096)
def _attributes_read(code: types.CodeType, name: str) -> frozenset[str] | None:
    """The attributes of a captured name that code reads; None where it uses it in other ways."""
    if name not in code.co_freevars:
        return None
    found: set[str] = set()
    steps = [step for step in dis.get_instructions(code) if step.opname != "CACHE"]
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        if step.argval != name or step.opname in ("COPY_FREE_VARS", "MAKE_CELL"):
            continue
        if step.opname == "LOAD_CLOSURE" or step.opname == "LOAD_FAST":
            continue  # handed on to a function inside, which is looked at below
        if step.opname != "LOAD_DEREF" or following is None:
            return None
        if following.opname not in ("LOAD_ATTR", "LOAD_METHOD"):
            return None
        found.add(following.argval)
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType) and name in inner.co_freevars:
            read = _attributes_read(inner, name)
            if read is None:
                return None
            found |= read
    return frozenset(found)
