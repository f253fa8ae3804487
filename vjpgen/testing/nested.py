"""A function that is nested in another, as a function of its own arguments.

Its rule is about those, which there are only while the function around it runs. So each call runs
that one anew, on its example, up to where it calls the nested function, and puts other arguments in
the place of its own. What the nested function captures, draws and defines is then what it is there.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.core.scope import Filter, Scope, in_filter
from jax.core import Tracer

from vjpgen import runtime
from vjpgen.runtime.rule import RULE, Rule
from vjpgen.testing.examples import Arguments, NoExampleError
from vjpgen.testing.sides import raised
from vjpgen.testing.subjects import Subject, bind, left_to_defaults

Function = Callable[..., Any]
Called = Callable[[Function, Rule, inspect.BoundArguments], Any]


class NotAloneError(Exception):
    """A nested function cannot be called by itself; the text says why."""


class _OutputError(BaseException):
    """Carries an output past what the function around would do with it."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output


@dataclass(frozen=True, eq=False)
class Nested:
    """A nested function by itself.

    Args:
        function: takes what it is called with, one argument for each slot; for a module its
            variables that are differentiated, as `{"params": {...}}`. What is left to its default
            is a keyword.
        arguments: what it is called with on the example of the function around.
        claims: those of its rule; of a module's collections with the module's slot before them.
    """

    function: Function
    arguments: Arguments
    claims: Mapping[str, Any]


def calls_of(function: Function, arguments: Arguments, name: str) -> Sequence[int]:
    """Return which calls of a nested function differ in more than what its arrays hold.

    Of calls with the same static arguments, and arrays of the same shapes and dtypes, the first.

    Args:
        function: the function around.
        arguments: its arguments.
        name: the qualified name of the nested function.
    """
    subject = bind(function, arguments, grad_vars=True)
    seen: list[str] = []

    def called(inner: Function, _rule: Rule, bound: inspect.BoundArguments) -> Any:
        seen.append(_outline(bound))
        return inner(*bound.args, **bound.kwargs)

    with _watched(name, called, every=True), contextlib.suppress(Exception):
        subject.call([each.value for each in subject.inputs])  # what comes after calls may fail
    return [number for number, outline in enumerate(seen) if outline not in seen[:number]] or [0]


def _outline(bound: inspect.BoundArguments) -> str:
    """Say what a function is called with, but for what arrays hold and the names of modules."""

    def leaf(value: Any) -> Any:
        if isinstance(value, (jax.Array, np.ndarray)):
            return value.shape, value.dtype
        return value.clone(name=None, parent=None) if isinstance(value, nn.Module) else value

    return str(jax.tree_util.tree_map(leaf, bound.arguments))


def alone(
    function: Function, arguments: Arguments, name: str, grad_vars: Filter, number: int = 0
) -> Nested:
    """Take a nested function out of the function around it.

    Args:
        function: the function around.
        arguments: its arguments.
        name: the qualified name of the nested function.
        grad_vars: the collections that are differentiated, by the nested function's rule.
        number: which of its calls is meant, counted from 0.

    Raises:
        NoExampleError: the function is not called on the example.
        NotAloneError: it is called while JAX traces, or takes modules that have no place in the
            variables of the function around.
    """
    subject = bind(function, arguments, grad_vars=True)
    values = [each.value for each in subject.inputs]
    with jax.enable_x64(True):
        wide = [raised(value) for value in values]
    rule, bound = _one_call(function, subject, values, name, number)
    slots = {
        slot: _Slot.of(value, subject, grad_vars)
        for slot, value in bound.arguments.items()
        if slot not in _nondiff(rule, bound)
    }

    left = {key: value for key, value in _left(bound).items() if key in slots}

    def run(*positional: Any, **keywords: Any) -> Any:
        """Run the function around with other variables; put the arguments in their place."""
        names = (key for key in slots if key not in left)
        given = {**dict(zip(names, positional, strict=True)), **keywords}
        arrays = list(wide if _is_wide(given) else values)
        for key, value in given.items():
            slots[key].write(value, arrays)

        def called(inner: Function, rule: Rule, bound: inspect.BoundArguments) -> Any:
            for key, value in given.items():
                bound.arguments[key] = slots[key].put(bound.arguments[key], value)
            raise _OutputError(inner(*bound.args, **bound.kwargs))

        try:
            with _watched(name, called, number):
                subject.call(arrays)
        except _OutputError as found:
            return found.output
        raise NotAloneError(f"`{function.__qualname__}` does not call it each time")

    run.__signature__ = _signature(slots, left)  # pyright: ignore[reportFunctionMemberAccess]
    run.__qualname__ = name
    own = tuple(
        slot.read(values, bound.arguments[key]) for key, slot in slots.items() if key not in left
    )
    return Nested(run, own, _claims(rule, slots))


def _left(bound: inspect.BoundArguments) -> dict[str, Any]:
    """Return the arguments that are left to their defaults."""
    parameters = bound.signature.parameters
    return {
        name: value for name, value in bound.arguments.items() if value is parameters[name].default
    }


def _signature(slots: Iterable[str], left: Mapping[str, Any]) -> inspect.Signature:
    """Make a signature of slots, those last that are left to their defaults."""
    kind, last = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    return inspect.Signature(
        [
            *(inspect.Parameter(slot, kind) for slot in slots if slot not in left),
            *(inspect.Parameter(slot, last, default=value) for slot, value in left.items()),
        ]
    )


def _one_call(
    function: Function, subject: Subject, values: Sequence[Any], name: str, number: int
) -> tuple[Rule, inspect.BoundArguments]:
    """Run a function; return what it calls the nested one with, the first time or a later one."""

    def called(inner: Function, rule: Rule, bound: inspect.BoundArguments) -> Any:
        raise _OutputError((rule, bound))

    try:
        with _watched(name, called, number):
            subject.call(values)
    except _OutputError as found:
        rule, bound = found.output
    else:
        raise NoExampleError(
            f"`{function.__qualname__}` does not call `{name}` on its example; write one on which "
            "it does"
        )
    if any(isinstance(x, Tracer) for x in jax.tree_util.tree_leaves(bound.arguments)):
        raise NotAloneError(
            f"`{function.__qualname__}` calls it while JAX traces, as under `jit` or `scan`"
        )
    return rule, bound


@contextlib.contextmanager
def _watched(name: str, called: Called, number: int = 0, *, every: bool = False) -> Iterator[None]:
    """Tell of a call of a function of a name that gets its rule meanwhile, or of every call.

    Calls within calls, which its own rules make, do not count.

    Args:
        name: the qualified name.
        called: is told; what it returns, the call does.
        number: which call is meant, counted from 0.
        every: whether all calls are meant.
    """
    interface = getattr(runtime, f"interface_{runtime.INTERFACE}")
    lift = interface.lift
    count, within = 0, False

    @functools.wraps(lift)
    def watching(*args: Any, **kwargs: Any) -> Any:
        function = lift(*args, **kwargs)
        rule: Rule | None = getattr(function, RULE, None)
        if rule is None or rule.name != name:
            return function

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count, within
            if within:
                return function(*args, **kwargs)
            count, within = count + 1, True
            try:
                if not every and count != number + 1:
                    return function(*args, **kwargs)
                bound = inspect.signature(function).bind(*args, **kwargs)
                if rule.defaults_have_slots:
                    bound.arguments |= left_to_defaults(bound.signature, bound.arguments)
                return called(function, rule, bound)
            finally:
                within = False

        return call

    interface.lift = watching
    try:
        yield
    finally:
        interface.lift = lift


def _is_wide(given: Any) -> bool:
    """Tell whether arguments are in double precision: so is all around them then."""
    return any(
        jnp.result_type(leaf) in (jnp.float64, jnp.complex128)
        for leaf in jax.tree_util.tree_leaves(given)
        if isinstance(leaf, (jax.Array, np.ndarray))
    )


def _nondiff(rule: Rule, bound: inspect.BoundArguments) -> set[str]:
    """Name the arguments without a slot, which stay as they are."""
    slots, _ = rule.bind(bound.args, bound.kwargs)
    return {name.partition("[")[0] for name, _, nondiff in rule.arguments(slots) if nondiff}


# -- arguments -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Slot:
    """One argument: a tree without modules, or a module.

    Args:
        places: for a module, where its variables lie among the inputs of the function around,
            by the parts of their paths below the module's own.
    """

    places: Mapping[tuple[str, ...], int] | None

    @classmethod
    def of(cls, value: Any, subject: Subject, grad_vars: Filter) -> _Slot:
        """Find out what an argument is."""
        leaves = jax.tree_util.tree_leaves(value)
        if not any(isinstance(leaf, nn.Module) for leaf in leaves):
            return cls(None)
        if len(leaves) > 1 or not isinstance(value.scope, Scope):
            raise NotAloneError("it takes modules in a tree, or one that is bound to nothing")
        return cls(_places(value.scope, subject, grad_vars))

    def read(self, values: Sequence[Any], value: Any) -> Any:
        """Return what the slot is given on the example."""
        if self.places is None:
            return value
        tree: dict[str, Any] = {}
        for path, place in self.places.items():
            below = tree
            for part in path[:-1]:
                below = below.setdefault(part, {})
            below[path[-1]] = values[place]
        return tree

    def write(self, given: Any, values: list[Any]) -> None:
        """Put a module's variables in their places."""
        for path, place in (self.places or {}).items():
            values[place] = functools.reduce(lambda tree, part: tree[part], path, given)

    def put(self, value: Any, given: Any) -> Any:
        """Return what the function is called with: a module as it is, or what is given."""
        return value if self.places is not None else given


def _places(scope: Scope, subject: Subject, grad_vars: Filter) -> dict[tuple[str, ...], int]:
    found: dict[tuple[str, ...], int] = {}
    names = {each.name: place for place, each in enumerate(subject.inputs)}
    for collection, variables in scope.variables().items():
        if not in_filter(grad_vars, collection):
            continue
        for path, _ in jax.tree_util.tree_flatten_with_path(variables)[0]:
            below = tuple(str(getattr(part, "key", part)) for part in path)
            name = ".".join((collection, *scope.path, *below))
            if name not in names:
                raise NotAloneError(f"its variable `{name}` is none of the function around")
            found[collection, *below] = names[name]
    return found


def _claims(rule: Rule, slots: Mapping[str, _Slot]) -> dict[str, Any]:
    """Return the claims of a rule, of collections with their module's slot before them."""
    module = next((name for name, slot in slots.items() if slot.places is not None), "")

    def of_slot(name: str) -> str:
        is_slot = name.partition(".")[0].partition("[")[0] in slots
        return name if is_slot or not module else f"{module}.{name}"

    return {
        kind: names if isinstance(names, bool) else tuple(of_slot(name) for name in names)
        for kind, names in rule.claims.items()
    }
