"""One trace for equal calls.

The primal, forward and backward function of a call are pure functions of their operands. Calls
whose keys are equal (see `call_keys`) share them: each is traced once, by `jax.jit`, which knows
all of JAX's own context that a trace depends on. Where JAX is staging a program out, a call becomes
one equation; where it is not, the shared program is run operation by operation: nothing is compiled
that would not be without sharing.

Whatever goes wrong in a shared trace, the call is made again on its own: it raises what it would
have raised, or works.

Each thread has a cache of its own. `disabled` and the environment variable `VJPGEN_SHARE_TRACES=0`
turn sharing off.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import inspect
import os
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from flax.linen import module as linen_module
from jax.core import Tracer
from jax.custom_derivatives import CustomVJPPrimal, SymbolicZero
from jax.extend.core import jaxpr_as_fun
from jax.interpreters.partial_eval import DynamicJaxprTracer

from vjpgen.runtime import drops
from vjpgen.runtime.call_keys import PythonState, key_of, python_state, python_values
from vjpgen.runtime.draws import Draws, Numbers, Origin
from vjpgen.runtime.errors import NeededError
from vjpgen.runtime.keys import Incomparable
from vjpgen.runtime.leaves import Constant
from vjpgen.runtime.outcomes import Outcome, Saved, SavedMeta

if TYPE_CHECKING:
    from vjpgen.runtime.splitting import Split

SIZE = 256  # entries a thread keeps: a program has as many as it has kinds of layers
_RNGS = 4  # draws that a call with rngs is expected to make; more cost one trace more
_PATIENCE = 64  # calls of a rule that go by before it is tried again after `Incomparable`

# JAX asks several times for the signature of what it traces, which is slow to find out.
_SIGNATURE = inspect.Signature([inspect.Parameter("arguments", inspect.Parameter.VAR_POSITIONAL)])

_VALUES = (bool, int, float, complex, str, bytes, type(None), type)


class Functions(NamedTuple):
    """The primal, forward and backward function of a call."""

    primal: Callable[..., Any]
    forward: Callable[..., Any]
    backward: Callable[..., Any]


class Info(NamedTuple):
    """How often calls have shared a trace, as in `functools.lru_cache`'s `cache_info`."""

    hits: int
    misses: int
    size: int


class _Store(threading.local):
    """The entries of one thread, the one that was used last at the end."""

    def __init__(self) -> None:
        self.entries: collections.OrderedDict[Hashable, Entry | None] = collections.OrderedDict()
        self.seen: collections.OrderedDict[Hashable, None] = collections.OrderedDict()
        self.waiting: dict[tuple[str, bool], int] = {}
        self.hits = self.misses = 0
        self.age = _age[0]
        self.off = 0


_age = [0]  # how often all threads' entries have been let go


def clear() -> None:
    """Forget all shared traces, as `jax.clear_caches` forgets JAX's."""
    _age[0] += 1


def info() -> Info:
    """Tell how often this thread's calls have shared a trace since `clear`."""
    store = _current()
    return Info(store.hits, store.misses, len(store.entries))


@contextlib.contextmanager
def disabled() -> Iterator[None]:
    """Have every call in this thread trace on its own."""
    _store.off += 1
    try:
        yield
    finally:
        _store.off -= 1


def _current() -> _Store:
    if _store.age != _age[0]:
        off = _store.off
        _store.__init__()
        _store.off = off
    return _store


class Plan(NamedTuple):
    """How a call is made.

    Args:
        functions: its primal, forward and backward function.
        is_shared: whether other calls use these, too.
        finish: is to be called when the call has been made.
    """

    functions: Functions
    is_shared: bool = False
    finish: Callable[[], None] = lambda: None


def plan(split: Split, own: Functions) -> Plan:
    """Decide whether a call shares its functions with others, or uses its own.

    Args:
        split: the call.
        own: its own functions.
    """
    operands = split.operands
    staged = _is_staged(operands)
    store, kind = _current(), (split.rule.key, staged)
    if not _may_share(split, operands):
        return Plan(own)
    if store.waiting.get(kind, 0):
        store.waiting[kind] -= 1
        return Plan(own)
    try:
        reading = Reading.of(split)
        if reading.state.tells_traced and not staged:
            raise Incomparable("a trace may do something else than code that is given values")
        key = key_of(split, reading.state)
        hash(key)
    except Incomparable as reason:
        store.waiting[kind] = 0 if reason.fleeting else _PATIENCE
        return Plan(own)
    except TypeError:  # something in it has no hash
        store.waiting[kind] = _PATIENCE
        return Plan(own)
    if key in store.entries:
        store.entries.move_to_end(key)
        entry = store.entries[key]
        store.hits += entry is not None
    elif staged or key in store.seen:
        store.misses += 1
        entry = Entry(split, own, reading)
        entry.forget = functools.partial(_forget, store, key, entry)
        _remember(store.entries, key, entry)
    else:  # it may be the only call, or have effects

        def finish() -> None:
            _remember(store.seen if reading.holds() else store.entries, key, None)

        return Plan(own, finish=finish)
    return Plan(own) if entry is None else entry.plan_for(split, own, reading)


def _may_share(split: Split, operands: Sequence[Any]) -> bool:
    return (
        split.rule.share_traces
        and not _store.off
        and os.environ.get("VJPGEN_SHARE_TRACES", "1") != "0"
        and not jax.config.jax_disable_jit  # pyright: ignore[reportAttributeAccessIssue]
        and split.is_plain
        and not linen_module._context.call_info_stack
        and all(isinstance(x, jax.Array) for x in operands)
    )


class Reading(NamedTuple):
    """What Python code read, or would have, when a call was made.

    Args:
        values: what code begins with, as `python_values` gives it.
        state: what it read.
    """

    values: tuple[Any, ...]
    state: PythonState

    @staticmethod
    def of(split: Split) -> Reading:
        """Return what code of a call reads now."""
        values = python_values(split)
        return Reading(values, python_state(values))

    def holds(self) -> bool:
        """Tell whether code would read the same now."""
        try:
            return python_state(self.values) == self.state
        except Incomparable:
            return False


def _forget(store: _Store, key: Hashable, entry: Entry, for_good: bool) -> None:
    if store.entries.get(key) is entry:
        if for_good:
            store.entries[key] = None
        else:
            del store.entries[key]


def _remember(entries: collections.OrderedDict[Hashable, Any], key: Hashable, value: Any) -> None:
    entries[key] = value
    while len(entries) > SIZE:
        entries.popitem(last=False)


def _is_staged(values: Sequence[Any]) -> bool:
    """Tell whether JAX is making a program of what happens to these arrays."""
    for value in values:
        while isinstance(value, Tracer):
            if isinstance(value, DynamicJaxprTracer):
                return True
            value = getattr(value, "primal", getattr(value, "val", None))
    return False


@dataclasses.dataclass(frozen=True, eq=False)
class _About:
    """What a shared run leaves besides arrays.

    Args:
        complaints: what is to be said, at each call.
        latest: see `Split.latest`; None of a backward run.
        seen: see `Split.seen`; of a forward run.
        saved: the plain part of what a forward run keeps.
        kept: for each array that it keeps, which operand it is; None of others.
    """

    complaints: Sequence[drops.Complaint]
    latest: Any = None
    seen: Any = None
    saved: Any = None
    kept: Sequence[int | None] = ()


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass(frozen=True, eq=False)
class _Ran:
    """What a shared run returns: its arrays and, as part of their structure, the rest."""

    arrays: Any
    about: _About

    def tree_flatten(self) -> Any:
        return (self.arrays,), self.about

    @classmethod
    def tree_unflatten(cls, about: Any, children: Any) -> _Ran:
        return cls(children[0], about)


class _Program:
    """A traced function that is run operation by operation.

    Args:
        traced: the function.
    """

    def __init__(self, traced: Any) -> None:
        self._jaxpr = traced.jaxpr  # alive: it is known by its identity
        self._run = jaxpr_as_fun(traced.jaxpr)
        self.structure = jax.tree_util.tree_structure(traced.out_info)

    def __call__(self, arrays: Sequence[Any]) -> list[Any]:
        """Return the results; one that is a constant of the program becomes an array."""
        results = zip(self._run(*arrays), self._jaxpr.out_avals, strict=True)
        return [x if isinstance(x, jax.Array) else _as_array(x, kind) for x, kind in results]


def _as_array(constant: Any, kind: Any) -> jax.Array:
    if kind.weak_type:  # only Python's own numbers become arrays that are so typed
        constant = np.asarray(constant).item()
        return jax.numpy.asarray(constant)
    return jax.numpy.asarray(np.asarray(constant), dtype=kind.dtype)


class _Stale(Exception):  # noqa: N818 - nobody outside sees it
    """Raised where an entry's own call has come to read other Python values than its key says."""


class _Role:
    """One function of an entry, traced once for each of JAX's contexts.

    Args:
        function: takes arrays, returns a `_Ran`.
        name: shows in profiles and jaxprs.
        begin: is called before each trace.
        checked: is called after each trace, with whether others could use it, too.
    """

    def __init__(
        self,
        function: Callable[..., _Ran],
        name: str,
        begin: Callable[[], None],
        checked: Callable[[bool], None],
    ) -> None:
        self._fresh = False
        self._checked = checked
        self._programs: dict[int, _Program] = {}

        def traced(*arguments: Any) -> _Ran:
            begin()
            self._fresh = True
            return function(*arguments)

        traced.__name__ = traced.__qualname__ = name
        traced.__signature__ = _SIGNATURE  # pyright: ignore[reportFunctionMemberAccess]
        self._jitted = jax.jit(traced)

    def __call__(self, *arguments: Any) -> _Ran:
        """Run the function; where nothing is staged, one operation after the other."""
        arrays = jax.tree_util.tree_leaves(arguments)
        if _is_staged(arrays):
            ran = self._jitted(*arguments)
            if self._fresh:
                self.trace(*arguments)
            return ran
        program = self._program(self.trace(*arguments))
        return jax.tree_util.tree_unflatten(program.structure, program(arrays))

    def trace(self, *arguments: Any) -> Any:
        """Trace the function for these arguments, if it has not been."""
        traced = self._jitted.trace(*arguments)
        if self._fresh:
            self._fresh = False
            self._checked(not any(isinstance(x, Tracer) for x in traced.jaxpr.consts))
        return traced

    def _program(self, traced: Any) -> _Program:
        key = id(traced.jaxpr)
        if key not in self._programs:
            self._programs[key] = _Program(traced)
        return self._programs[key]


class Entry:
    """The functions that calls of one key share.

    Args:
        split: the first of these calls; runs use what it holds besides arrays.
        own: its functions.
        reading: what Python code reads, in all of them.
    """

    def __init__(self, split: Split, own: Functions, reading: Reading) -> None:
        self._split = split
        self._own = own
        self._reading = reading
        self._draws = Draws(
            width=_RNGS if any(r.origin.suffixes for r in split.modules.roots) else 0
        )
        self._roles: dict[Hashable, _Role] = {}
        self._saved: dict[int, SavedMeta] = {}
        self._usable = True
        self._just_read = True  # what code reads has been looked at, and none has run since
        self.forget: Callable[[bool], Any] = lambda for_good: None
        self._nameless = None if reading.state.is_placed else split.first_module

    def plan_for(self, call: Split, own: Functions, reading: Reading) -> Plan:
        """Return the plan of a call of this key.

        Args:
            call: the call.
            own: its own functions, for whatever cannot be shared after all.
            reading: what Python code reads at the call.
        """
        template = self._split
        is_over = False
        origins = [root.origin for root in call.modules.roots]
        said: set[drops.Complaint] = set()
        if template.holds_dropping and call is not template:
            call.holds_dropping = True
            drops.tell_around()

        def finish() -> None:
            nonlocal is_over
            is_over = True

        def primal(*operands: Any) -> Any:
            ran = self._run(("primal",), self._primal, operands, origins, said)
            if ran is None:
                return own.primal(*operands)
            call.latest = ran.about.latest
            call.of_primal = ran.about.latest[0]
            return ran.arrays

        def forward(*operands: Any) -> Any:
            flags, values = None, operands
            if call.symbolic_zeros:
                flags = tuple(bool(operand.perturbed) for operand in operands)
                values = tuple(operand.value for operand in operands)
            template.of_primal = call.of_primal
            fitted = call.of_primal is not None and call.rule.forward is not None
            ran = None
            if not is_over or reading.holds():  # JAX may ask for it long after the call
                ran = self._run(("forward", flags, fitted), self._forward, values, origins, said)
            if ran is None:
                return own.forward(*operands)
            call.latest, call.seen = ran.about.latest, ran.about.seen
            call.share_with(template)
            flat, made = ran.arrays
            rest = iter(made)
            saved = [next(rest) if place is None else values[place] for place in ran.about.kept]
            return flat, Saved(tuple(saved), ran.about.saved)

        def backward(saved: Saved, cotangents: Sequence[Any]) -> Any:
            if id(saved.meta) not in self._saved or not reading.holds():
                return own.backward(saved, cotangents)
            self._just_read = reading is self._reading
            form, arrays = _without_zeros(cotangents)
            role = "backward", id(saved.meta), form
            ran = self._run(role, self._backward, (saved.arrays, arrays), None, said)
            return own.backward(saved, cotangents) if ran is None else ran.arrays

        return Plan(Functions(primal, forward, backward), True, finish)

    def _run(
        self,
        key: tuple[Any, ...],
        function: Callable[..., _Ran],
        operands: Any,
        origins: Sequence[Origin] | None,
        said: set[drops.Complaint],
    ) -> _Ran | None:
        """Run a function and say what it complains of; None where it cannot be shared.

        Args:
            key: the function's name, and what else it depends on, its first arguments.
            function: takes these, the operands, and the positions of random draws.
            operands: arrays.
            origins: of the random draws in the call's root scopes; None where it draws nothing.
            said: what has been said of the call.
        """
        if not self._usable:
            return None
        role = self._roles.get(key)
        if role is None:
            role = self._roles[key] = _Role(
                functools.partial(function, *key[1:]), self._name(key[0]), self._begin, self._check
            )
        draws = self._draws
        try:
            if origins is None:
                ran = role(operands, ())
            else:
                while draws.width:  # a trace tells which draws there are
                    role.trace(operands, draws.values(origins))
                    if not draws.outgrown():
                        break
                ran = role(operands, draws.values(origins))
        except NeededError:
            self._refuse()
            raise
        except _Stale:
            self._refuse(for_good=False)
            return None
        except Exception:
            self._refuse()
            return None
        finally:
            self._just_read = False
        for complaint in ran.about.complaints:
            if complaint not in said and complaint.say():
                said.add(complaint)
        return ran

    def _primal(self, operands: Any, positions: Any) -> _Ran:
        with self._running(positions) as complaints:
            flat = self._own.primal(*operands)
        return _Ran(flat, _About(complaints, self._latest()))

    def _latest(self) -> tuple[Outcome, bool]:
        """What the run that has just ended made; objects that it returns are of this call alone."""
        assert self._split.latest is not None
        outcome, settled = self._split.latest
        for entry in outcome.output.entries:
            if isinstance(entry, Constant) and not isinstance(entry.value, _VALUES):
                self._refuse()
        return outcome, settled

    def _forward(self, flags: Any, _fitted: bool, values: Any, positions: Any) -> _Ran:
        operands = values if flags is None else list(map(CustomVJPPrimal, values, flags))
        with self._running(positions) as complaints:
            flat, saved = self._own.forward(*operands)
        self._saved[id(saved.meta)] = saved.meta
        places = {id(value): place for place, value in enumerate(values)}
        kept = [places.get(id(value)) for value in saved.arrays]
        made = [value for value, place in zip(saved.arrays, kept, strict=True) if place is None]
        about = _About(complaints, self._latest(), self._split.seen, saved.meta, kept)
        return _Ran((flat, made), about)

    def _backward(self, meta: int, form: Any, operands: Any, _positions: Any) -> _Ran:
        arrays, cotangents = operands
        saved = Saved(arrays, self._saved[meta])
        with drops.collected() as complaints:
            tangents = self._own.backward(saved, _with_zeros(form, cotangents))
        return _Ran(tuple(None if _is_zero(x) else x for x in tangents), _About(complaints))

    @contextlib.contextmanager
    def _running(self, positions: Any) -> Iterator[list[drops.Complaint]]:
        split = self._split
        split.numbers, split.nameless = Numbers(self._draws, positions), self._nameless
        try:
            with drops.collected() as complaints:
                yield complaints
        finally:
            split.numbers = split.nameless = None

    def _name(self, role: str) -> str:
        name = self._split.rule.name
        return name if role == "primal" else f"{name}_{role}"

    def _begin(self) -> None:
        """Begin a trace only where the first call still stands for what the key says."""
        known, self._just_read = self._just_read, False
        if not known and not self._reading.holds():
            raise _Stale

    def _check(self, closed: bool) -> None:
        """Let nobody else use a trace that holds something of the caller's trace.

        Nor one that has changed the Python values of the key.
        """
        if not closed or not self._reading.holds():
            self._refuse()

    def _refuse(self, *, for_good: bool = True) -> None:
        self._usable = False
        self.forget(for_good)


def _without_zeros(cotangents: Sequence[Any]) -> tuple[Any, list[Any]]:
    """Take the symbolic zeros out of cotangents: what tells where they are, and the others."""
    form = tuple(
        (value.aval if isinstance(value, SymbolicZero) else value.shape)
        if _is_zero(value)
        else None
        for value in cotangents
    )
    return form, [value for value in cotangents if not _is_zero(value)]


def _with_zeros(form: Any, arrays: Sequence[Any]) -> list[Any]:
    rest = iter(arrays)
    return [
        next(rest)
        if kind is None
        else np.zeros(kind, jax.dtypes.float0)
        if isinstance(kind, tuple)
        else SymbolicZero(kind)
        for kind in form
    ]


def _is_zero(value: Any) -> bool:
    if value is None or isinstance(value, SymbolicZero):
        return True
    return getattr(value, "dtype", None) == jax.dtypes.float0


_store = _Store()
