"""Whether a gradient depends on a value at all: asked only where a warning may be due."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import Literal

from vjpgen.runtime.rule import Rule

Flat = Callable[[Sequence[Any]], Sequence[Any]]
_analysing: contextvars.ContextVar[bool] = contextvars.ContextVar("analysing", default=False)


@contextlib.contextmanager
def _analysis() -> Iterator[None]:
    token = _analysing.set(True)
    try:
        yield
    finally:
        _analysing.reset(token)


def as_analysed(rule: Rule) -> Rule:
    """Return a rule as an analysis around it sees it: what it drops is still depended on.

    Otherwise what a rule inside drops would be dropped by the one around it without a word.
    """
    if not _analysing.get() or rule.missing not in (None, "error"):
        return rule
    return dataclasses.replace(rule, missing="autodiff", optimize_remat=False)


def depends_on(function: Flat, operands: Sequence[Any], suspects: Sequence[int]) -> list[int]:
    """Return those of the operands `suspects` whose gradient is not zero by structure.

    Traces the gradient abstractly and follows the cotangents through it.

    Args:
        function: takes the operands, returns differentiable arrays.
        operands: arrays.
        suspects: indices of differentiable operands.
    """

    def gradient(values: list[Any], scale: Any) -> Any:
        inner = _of_chosen(function, values, suspects)
        out, pullback = jax.vjp(inner, [values[index] for index in suspects])
        # made of the outputs, so that they vary, or are sharded, over the same mesh axes
        return pullback(tuple(x * scale.astype(x.dtype) for x in out))

    def outputs(values: list[Any], scale: Any) -> Any:
        return [scale, *function(values)]

    with _analysis():
        try:
            closed = jax.make_jaxpr(gradient)(list(operands), jnp.float32(1))
        except Exception:  # no reverse mode (a while loop): whatever the output depends on counts
            closed = jax.make_jaxpr(outputs)(list(operands), jnp.float32(1))
            return [index for index in suspects if any(_reached(closed.jaxpr, index)[1:])]
    live = _reached(closed.jaxpr, len(operands))
    return [index for index, flag in zip(suspects, live, strict=True) if flag]


def perturbed_by(function: Flat, operands: Sequence[Any], chosen: Sequence[int]) -> set[int]:
    """Return which outputs JAX takes to be differentiated where the operands `chosen` are.

    Args:
        function: takes the operands, returns differentiable arrays.
        operands: arrays.
        chosen: indices of differentiable operands.
    """
    watch = Watch()

    def run(values: list[Any]) -> Any:
        inner = _of_chosen(function, values, chosen)
        inputs = [values[index] for index in chosen]
        return jax.vjp(lambda inputs: watch(inner(inputs)), inputs)[0]

    with _analysis():
        try:
            jax.eval_shape(run, list(operands))
        except Exception:  # no derivative (a callback): whatever depends on the operands counts
            closed = jax.make_jaxpr(function)(list(operands))
            return {i for i, flag in enumerate(_reached(closed.jaxpr, *chosen)) if flag}
    return watch.close()


class Watch:
    """Sees, while a function is differentiated, which of some values are."""

    def __init__(self) -> None:
        self._seen: set[int] | None = set()

    def __call__(self, values: Sequence[Any]) -> tuple[Any, ...]:
        """Return the values as they are; call it where the differentiated function runs."""
        if not values:
            return ()

        @jax.custom_jvp
        def same(*values: Any) -> tuple[Any, ...]:
            return values

        def rule(primals: Any, tangents: Any) -> Any:
            if self._seen is not None:  # not a later derivative of what a trace has kept
                self._seen |= set(perturbed_among(tangents))
            return primals, tangents

        same.defjvp(rule, symbolic_zeros=True)
        return same(*values)

    def close(self) -> set[int]:
        """Return the places of those that are differentiated."""
        seen, self._seen = self._seen, None
        assert seen is not None
        return seen


def perturbed_among(tangents: Sequence[Any]) -> list[int]:
    """Return the places of tangents that are not zero by structure."""
    return [
        place
        for place, tangent in enumerate(tangents)
        if not isinstance(tangent, SymbolicZero) and tangent.dtype != jax.dtypes.float0
    ]


def _of_chosen(
    function: Flat, values: Sequence[Any], chosen: Sequence[int]
) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """Return a flat function as one of some of its operands."""

    def inner(inputs: Sequence[Any]) -> tuple[Any, ...]:
        full = list(values)
        for index, value in zip(chosen, inputs, strict=True):
            full[index] = value
        return tuple(function(full))

    return inner


def _reached(jaxpr: Any, *starts: int) -> list[bool]:
    """Tell for each result of a jaxpr whether the inputs `starts` reach it."""
    live = {jaxpr.invars[start] for start in starts}
    for equation in jaxpr.eqns:
        flags = [not isinstance(v, Literal) and v in live for v in equation.invars]
        if any(flags):
            found = _through(equation.primitive.name, equation.params, flags)
            count = len(equation.outvars)
            found = [True] * count if found is None else found
            live.update(v for v, flag in zip(equation.outvars, found, strict=True) if flag)
    return [not isinstance(v, Literal) and v in live for v in jaxpr.outvars]


def _through(name: str, params: Mapping[str, Any], flags: list[bool]) -> list[bool] | None:
    """Follow what reaches an equation through the jaxprs in it; None: to all its results."""
    if name == "scan":
        return _loop(params["jaxpr"], flags, params["num_consts"], params["num_carry"])
    if name == "while":
        skipped, consts = params["cond_nconsts"], params["body_nconsts"]
        carried = len(flags) - skipped - consts
        found = _loop(params["body_jaxpr"], flags[skipped:], consts, carried)
        steered = _into(params["cond_jaxpr"], [*flags[:skipped], *found])
        return None if any(steered) else found
    if name == "cond":
        if flags[0]:
            return None
        branches = [_into(branch, flags[1:]) for branch in params["branches"]]
        return [any(column) for column in zip(*branches, strict=True)]
    parts = [part for part in params.values() if hasattr(getattr(part, "jaxpr", part), "eqns")]
    if len(parts) == 1 and len(getattr(parts[0], "jaxpr", parts[0]).invars) == len(flags):
        return _into(parts[0], flags)
    return None


def _into(jaxpr: Any, flags: Sequence[bool]) -> list[bool]:
    return _reached(
        getattr(jaxpr, "jaxpr", jaxpr), *(place for place, flag in enumerate(flags) if flag)
    )


def _loop(jaxpr: Any, flags: Sequence[bool], consts: int, carried: int) -> list[bool]:
    """Follow what reaches a loop, around it until nothing more is reached."""
    flags = list(flags)
    while True:
        found = _into(jaxpr, flags)
        carry = [
            a or b for a, b in zip(flags[consts : consts + carried], found[:carried], strict=True)
        ]
        if carry == flags[consts : consts + carried]:
            return [*carry, *found[carried:]]
        flags[consts : consts + carried] = carry
