"""What kind of rule a function has, and how to run the function without it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from unittest import mock

import flax.linen as nn
import jax
from flax.core.scope import Filter
from jax.extend.core import ClosedJaxpr, Jaxpr

from vjpgen.runtime.recursion import plain
from vjpgen.runtime.rule import Rule
from vjpgen.testing.examples import rule_of

# Whose custom_vjp functions are a part of the source like any other.
_LIBRARIES = frozenset({"flax", "jax", "jaxlib", "optax"})
_FLAX_LIFTED = "flax.core.lift"
_CUSTOM_GRADIENT = "custom_gradient.<locals>"  # makes a rule of JAX's for a user's function
_ADDRESS = re.compile(r"0x[0-9a-f]+")
_CUSTOM_VJP = (jax.custom_vjp, type(jax.custom_vjp(lambda x: x)))  # another type as jax is set


_stripping: Any = jax.make_user_context(default_value=False)


@dataclasses.dataclass(frozen=True, eq=False)
class Ruled:
    """A function, and what is known of its rule.

    Args:
        function: what is called.
        arguments: its positional arguments: those of a bound method have the module first.
        source: the function without its rule, within `without_rules`.
        name: what it is called.
        signature: what its arguments are named by.
        rule: its rule, where it is one of vjpgen.
        nondiff: the names of arguments without a tangent.
        static: the names of arguments that are no arrays to the function.
        grad_vars: the collections that are differentiated.
        backward: the backward rule, and the forward rule; where they are known.
        strips: whether `jax.custom_vjp` functions inside lose their rules, too.
        sees_zeros: whether the rule may be told which tangents are zero.
        defaults_have_slots: whether arguments that a call leaves to their defaults have tangents.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    source: Callable[..., Any]
    name: str
    signature: inspect.Signature
    rule: Rule | None = None
    nondiff: frozenset[str] = frozenset()
    static: frozenset[str] = frozenset()
    grad_vars: Filter = "params"
    rules: tuple[Callable[..., Any], ...] = ()
    strips: bool = False
    sees_zeros: bool = True
    defaults_have_slots: bool = True

    @contextlib.contextmanager
    def without_rules(self) -> Iterator[None]:
        """Run functions without the rules that are tested."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(plain())
            if self.strips:
                stack.enter_context(_stripped())
            yield


def ruled(function: Callable[..., Any], arguments: Sequence[Any]) -> Ruled:
    """Find out what kind of rule a function has.

    Args:
        function: a function, a method, a bound method of a module, or a module that can be called.
        arguments: its positional arguments.
    """
    arguments = tuple(arguments)
    if isinstance(function, nn.Module):
        function, arguments = type(function).__call__, (function, *arguments)
    elif inspect.ismethod(function) and isinstance(function.__self__, nn.Module):
        function, arguments = function.__func__, (function.__self__, *arguments)
    rule = rule_of(function)
    if rule is not None:
        return _of_vjpgen(function, arguments, rule)
    if isinstance(function, _CUSTOM_VJP):
        return _of_jax(function, arguments)
    parts = _flax_parts(function)
    if parts is not None:
        return _of_flax(function, arguments, parts)
    return Ruled(
        function, arguments, function, _name(function), inspect.signature(function), strips=True
    )


def _of_vjpgen(function: Callable[..., Any], arguments: tuple[Any, ...], rule: Rule) -> Ruled:
    backward, forward = rule.backward, rule.forward
    rules: list[Any] = [getattr(type(arguments[0]), each, None) for each in (backward, forward)
                        if isinstance(each, str) and arguments]  # fmt: skip
    rules += [each() for each in (backward, forward) if callable(each)]
    return Ruled(
        function,
        arguments,
        function,
        rule.name,
        rule.signature,
        rule,
        grad_vars=rule.grad_vars,
        rules=tuple(each for each in rules if each is not None),
        sees_zeros=rule.symbolic_zeros,
        defaults_have_slots=rule.defaults_have_slots,
    )


def _of_jax(function: Any, arguments: tuple[Any, ...]) -> Ruled:
    source = function.__wrapped__
    signature = inspect.signature(source)
    nondiff = _names(signature, _numbers(function))
    return Ruled(
        function,
        arguments,
        source,
        _name(source),
        signature,
        nondiff=nondiff,
        static=nondiff,
        rules=tuple(
            each for each in (getattr(function, part, None) for part in ("bwd", "fwd")) if each
        ),
        sees_zeros=any(getattr(function, name, False) for name in ("symbolic_zeros", "symz")),
    )


def _numbers(function: Any) -> Sequence[int]:
    for name in ("nondiff_argnums", "static_argnums"):
        found = getattr(function, name, None)
        if found is not None:
            return tuple(found)
    return ()


def _names(signature: inspect.Signature, numbers: Sequence[int]) -> frozenset[str]:
    """Return the names of the parameters in some places."""
    names = list(signature.parameters)
    return frozenset(names[number] for number in numbers if -len(names) <= number < len(names))


def _of_flax(
    function: Callable[..., Any], arguments: tuple[Any, ...], parts: Mapping[str, Any]
) -> Ruled:
    """A function that `flax.linen.custom_vjp` made; its primal runs where `jax.custom_vjp` does."""
    signature = inspect.signature(parts["fn"])
    numbers = parts["nondiff_argnums"]
    nondiff = _names(signature, (numbers,) if isinstance(numbers, int) else tuple(numbers))
    return Ruled(
        function,
        arguments,
        function,
        _name(parts["fn"]),
        signature,
        nondiff=nondiff,
        static=nondiff,
        grad_vars=parts["grad_vars"],
        rules=(parts["backward_fn"], parts["forward_fn"]),
        strips=True,
        sees_zeros=False,
        defaults_have_slots=False,
    )


def _flax_parts(function: Any) -> Mapping[str, Any] | None:
    """Return what `flax.linen.custom_vjp` was given; None for other functions."""
    cells = _cells(function)
    inner = cells.get("class_fns")
    given = cells.get("trafo_kwargs")
    if not isinstance(inner, tuple) or not isinstance(given, dict) or "backward_fn" not in given:
        return None
    fn, forward = (_cells(inner[0]).get(name) for name in ("fn", "forward_fn"))
    if fn is None or forward is None:
        return None
    return {"grad_vars": "params", "nondiff_argnums": (), **given, "fn": fn, "forward_fn": forward}


def _cells(function: Any) -> Mapping[str, Any]:
    code = getattr(function, "__code__", None)
    if code is None:
        return {}
    cells = function.__closure__ or ()
    return {
        name: cell.cell_contents
        for name, cell in zip(code.co_freevars, cells, strict=True)
        if cell != type(cell)()
    }


def _name(function: Any) -> str:
    return getattr(function, "__qualname__", type(function).__name__)


# -- without rules ---------------------------------------------------------------------------------


@contextlib.contextmanager
def _stripped() -> Iterator[None]:
    """Have `jax.custom_vjp` functions of users, and those of Flax for them, run as they are.

    Functions jitted inside are traced anew: the context is a part of what JAX knows traces by.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(_stripping(True))
        for kind in dict.fromkeys(_CUSTOM_VJP):
            stack.enter_context(mock.patch.object(kind, "__call__", _without_rule(kind.__call__)))
        yield


def _without_rule(call: Callable[..., Any]) -> Callable[..., Any]:
    def called(function: Any, *args: Any, **kwargs: Any) -> Any:
        source = function.__wrapped__
        module = _module(function)
        if module.partition(".")[0] in _LIBRARIES and module != _FLAX_LIFTED:
            return call(function, *args, **kwargs)
        return source(*args, **kwargs)

    return called


def _module(function: Any) -> str:
    """Name the module that a `jax.custom_vjp` function's rule was written in."""
    source = function.__wrapped__
    given = _given(source)
    written = getattr(function, "bwd", None) or source if given is source else given
    return getattr(unwrapped(written), "__module__", None) or ""


def _given(source: Any) -> Any:
    """Return what `jax.custom_gradient` was given for a function that it made; others as is."""
    if getattr(source, "__qualname__", "").startswith(_CUSTOM_GRADIENT):
        return _cells(source).get("fun", source)
    return source


def where_written(about: Ruled) -> tuple[str, int]:
    """Return file and line of the backward rule, else of the function; none are ("", 0)."""
    given = _given(about.source)
    first = about.rules[:1] if given is about.source else ()
    for function in (*first, given):
        code = getattr(inspect.unwrap(unwrapped(function)), "__code__", None)
        if code is not None and not code.co_filename.startswith("<"):
            return code.co_filename, code.co_firstlineno
    return "", 0


def unwrapped(function: Any) -> Any:
    """Return what a `functools.partial`, or a `jax.tree_util.Partial`, calls."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def settled(
    about: Ruled, call: Callable[..., Any], source: Callable[..., Any]
) -> tuple[Ruled, bool]:
    """Find the rules that are tested, and tell whether the function runs any of them.

    Those of vjpgen are, where there are such: `jax.custom_vjp` functions keep theirs then. A
    function runs none where JAX traces the same without them.

    Args:
        about: a function that may call others with rules.
        call: calls it, without arguments.
        source: calls its source.
    """
    if not about.strips or about.rule is not None or about.rules:
        return about, True
    with_rules = jax.make_jaxpr(call)()
    whole = dataclasses.replace(about, strips=False)
    with whole.without_rules():
        if rules_in(with_rules) > rules_in(jax.make_jaxpr(source)()):
            return whole, True
    with about.without_rules():
        without = jax.make_jaxpr(source)()
    if rules_in(with_rules) != rules_in(without):
        return about, True
    # The count does not see into every call, where one rule may stand in another's place.
    texts = [_ADDRESS.sub("", str(each)) for each in (with_rules, without)]
    return about, texts[0] != texts[1]


def rules_in(jaxpr: Any) -> int:
    """Count the calls of `jax.custom_vjp` functions in a jaxpr."""
    jaxpr = jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr
    count = 0
    for equation in jaxpr.eqns:
        params = list(equation.params.values())
        name = str(equation.primitive)
        count += name.startswith("custom_vjp") or "CustomVJP" in str([type(p) for p in params])
        leaves = jax.tree_util.tree_leaves(params, is_leaf=lambda leaf: isinstance(leaf, Jaxpr))
        count += sum(rules_in(leaf) for leaf in leaves if isinstance(leaf, (Jaxpr, ClosedJaxpr)))
    return count
