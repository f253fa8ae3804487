"""Put a lifted function in the place of its primal."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from flax import traceback_util
from flax.core.scope import Filter
from flax.linen.module import wrap_method_once

from vjpgen.runtime.rule import RULE, Missing, Rule
from vjpgen.runtime.wrapping import wrap

# Users' tracebacks show their own frames, not the runtime's.
for _path in Path(__file__).parent.glob("*.py"):
    traceback_util.register_exclusion(str(_path))

Function = TypeVar("Function", bound=Callable[..., Any])
Reference = Callable[[], Callable[..., Any]] | str


def lift(
    primal: Function,
    lifted: Callable[..., Any],
    *,
    name: str,
    at: str,
    bwd: Reference,
    fwd: Reference | None = None,
    target: str = "function",
    grad_vars: Filter = "params",
    nondiff_argnums: int | tuple[int, ...] = (),
    nondiff_argnames: str | tuple[str, ...] = (),
    missing: Missing = None,
    symbolic_zeros: bool = False,
    optimize_remat: bool = False,
    exact: bool | tuple[str, ...] = (),
    surrogate: bool | tuple[str, ...] = (),
    zero: bool | tuple[str, ...] = (),
    state: bool | tuple[str, ...] = (),
    example: Reference | None = None,
) -> Function:
    """Return `primal` with the gradient of its rule; generated modules call this.

    Args:
        primal: the annotated function, as decorated.
        lifted: the generated function; takes a `LiftedCall`, then one argument a parameter.
        name: qualified name of the function.
        at: file and line of the annotation.
        bwd: gives the backward rule when called, or the name of an attribute of the class.
        fwd: the same for the forward rule; None for the primal through `jax.vjp`.
        target: "linen" for methods of Linen modules, "function" for all else.
        grad_vars: collections for which the rule returns tangents.
        nondiff_argnums: places of arguments without a tangent slot; the module is 0.
        nondiff_argnames: names of such arguments.
        missing: "error", "zero" or "autodiff"; None is strict.
        symbolic_zeros: as in `jax.custom_vjp.defvjp`.
        optimize_remat: as in `jax.custom_vjp.defvjp`.
        exact, surrogate, zero, state: claims, kept for verification.
        example: gives a function that returns example arguments.

    Returns:
        A function of the signature of `primal`.
    """
    if isinstance(primal, staticmethod):
        function = primal.__func__
    elif target == "linen" and _is_method(name) and not hasattr(primal, "nowrap"):
        function = wrap_method_once(primal)
    else:
        function = primal
    claims = {"exact": exact, "surrogate": surrogate, "zero": zero, "state": state}
    rule = make_rule(
        function,
        lifted,
        name=name,
        at=at,
        forward=fwd,
        backward=bwd,
        grad_vars=grad_vars,
        nondiff_argnums=nondiff_argnums,
        nondiff_argnames=nondiff_argnames,
        missing=missing,
        symbolic_zeros=symbolic_zeros,
        optimize_remat=optimize_remat,
        key=f"{function.__module__}:{name}@{at}",
        claims=claims,
        example=example,
        decorated=function if isinstance(primal, staticmethod) else primal,
    )
    call = wrap(rule)
    return _LiftedStatic(call) if isinstance(primal, staticmethod) else call  # pyright: ignore


class _LiftedStatic(staticmethod):  # pyright: ignore[reportMissingTypeArgument]
    """A static method that is told its class, where its rules are looked up."""

    def __set_name__(self, owner: type, name: str) -> None:
        rule: Rule = self.__func__.__dict__[RULE]
        if rule.owner is None:
            self.__func__.__dict__[RULE] = dataclasses.replace(rule, owner=owner)


def _is_method(name: str) -> bool:
    """Tell by its qualified name whether a function stands in a class body."""
    owner = name.rpartition(".")[0]
    return bool(owner) and not owner.endswith("<locals>")


def make_rule(
    primal: Callable[..., Any],
    lifted: Callable[..., Any],
    *,
    nondiff_argnums: int | tuple[int, ...],
    nondiff_argnames: str | tuple[str, ...],
    decorated: Callable[..., Any] | None = None,
    **parts: Any,
) -> Rule:
    """Build a `Rule`, its argument numbers and names as tuples.

    Args:
        primal: the function, as it is called.
        lifted: the function that does what the rule says.
        nondiff_argnums: one number or several, negative ones from the end.
        nondiff_argnames: one name or several.
        decorated: the function before Flax's method wrapper; by default `primal`.
        parts: the other fields of `Rule`.
    """
    argnums = (nondiff_argnums,) if isinstance(nondiff_argnums, int) else tuple(nondiff_argnums)
    argnames = (nondiff_argnames,) if isinstance(nondiff_argnames, str) else tuple(nondiff_argnames)
    decorated = primal if decorated is None else decorated
    signature = inspect.signature(decorated)
    count = len(signature.parameters)
    return Rule(
        primal=primal,
        lifted=lifted,
        nondiff_argnums=tuple(n + count if n < 0 else n for n in argnums),
        nondiff_argnames=argnames,
        signature=signature,
        own_signature=_own_signature(decorated, signature),
        **parts,
    )


def _own_signature(
    function: Callable[..., Any], shown: inspect.Signature
) -> inspect.Signature | None:
    """Return what a decorated function takes itself, where it shows what it wraps."""
    try:
        own = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):  # made in C, as by `jax.jit`: it takes what it wraps
        return None
    return None if _parameters(own) == _parameters(shown) else own


def _parameters(signature: inspect.Signature) -> list[Any]:
    """Tell signatures apart without comparing defaults, which may be arrays that are traced."""
    return [(part.name, part.kind, id(part.default)) for part in signature.parameters.values()]


def primal(function: Function) -> Function:
    """Return the primal of a function with a rule: its own body, without the rule.

    Args:
        function: a function or (bound) method; one without a rule is returned as it is, so that
            the source and the generated module can both say `vjpgen.primal(f)`.
    """
    if inspect.ismethod(function):
        found = primal(function.__func__)
        return found.__get__(function.__self__)  # pyright: ignore[reportReturnType]
    rule: Rule | None = getattr(function, RULE, None)
    return function if rule is None else rule.primal  # pyright: ignore[reportReturnType]
