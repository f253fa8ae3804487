"""A jaxpr as a list of equations over numbered values, inner functions opened.

Calls (`jit`, `custom_vjp`, `checkpoint`) are opened, as XLA does; loops and branches are one
equation each. Identities are seen through. What nothing needs is left out.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

_CALLS = frozenset(
    {
        *("jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call"),
        *("custom_vjp_call_jaxpr", "checkpoint", "remat", "remat2", "custom_lin"),
    }
)
_IDENTITIES = frozenset(
    {"copy", "copy_p", "name", "optimization_barrier", "pvary", "reduce_precision"}
)

Stack = tuple[Any, ...]
"""Tracebacks, from the outermost call to the equation itself."""


@dataclass(frozen=True, eq=False)
class Equation:
    """One operation.

    Args:
        operation: its name.
        inputs: the values that it reads.
        outputs: the values that it makes.
        stack: where it comes from.
        bodies: the inner jaxprs of a loop or branch.
        has_effect: whether it does something beside making its outputs.
    """

    operation: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    stack: Stack
    bodies: tuple[Jaxpr, ...]
    has_effect: bool


@dataclass(frozen=True, eq=False)
class Flat:
    """A flat jaxpr.

    Args:
        inputs: its arguments.
        constants: the arrays that it has closed over.
        equations: its operations in order.
        outputs: its results; None for a literal.
        types: the abstract value of each value.
    """

    inputs: tuple[int, ...]
    constants: tuple[int, ...]
    equations: tuple[Equation, ...]
    outputs: tuple[int | None, ...]
    types: Mapping[int, Any]

    def makers(self) -> dict[int, tuple[Equation, int]]:
        """Return the equation that makes each value, and the place among its outputs."""
        return {
            value: (equation, place)
            for equation in self.equations
            for place, value in enumerate(equation.outputs)
        }

    def independent(self) -> frozenset[int]:
        """Return the values that depend on no argument."""
        found = set(self.constants)
        for equation in self.equations:
            if found.issuperset(equation.inputs) and not equation.has_effect:
                found.update(equation.outputs)
        return frozenset(found)


def flatten(jaxpr: Any) -> Flat:
    """Flatten a jaxpr."""
    opened = _Opened()
    inner = jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr
    inputs = [opened.new(var.aval) for var in inner.invars]
    outputs = opened.run(inner, inputs, ())
    equations = tuple(_needed(opened.equations, outputs))
    return Flat(tuple(inputs), tuple(opened.constants), equations, tuple(outputs), opened.types)


def _needed(equations: Sequence[Equation], outputs: Sequence[int | None]) -> list[Equation]:
    """Leave out what has no effect and what nothing reads."""
    wanted, kept = set(outputs), []
    for equation in reversed(equations):
        if equation.has_effect or wanted.intersection(equation.outputs):
            kept.append(equation)
            wanted.update(equation.inputs)
    return kept[::-1]


class _Opened:
    """Collects the equations of a jaxpr and of those that it calls."""

    def __init__(self) -> None:
        self.types: dict[int, Any] = {}
        self.constants: list[int] = []
        self.equations: list[Equation] = []
        self._numbers = itertools.count()

    def new(self, aval: Any) -> int:
        """Number a value."""
        number = next(self._numbers)
        self.types[number] = aval
        return number

    def run(self, jaxpr: Jaxpr, inputs: Sequence[int | None], stack: Stack) -> list[int | None]:
        """Go through a jaxpr whose arguments are these values; return its outputs."""
        known: dict[Any, int | None] = dict(zip(jaxpr.invars, inputs, strict=True))
        for var in jaxpr.constvars:
            known[var] = self.new(var.aval)
            self.constants.append(known[var])  # pyright: ignore[reportArgumentType]

        def read(atom: Any) -> int | None:
            return None if isinstance(atom, Literal) else known[atom]

        for eqn in jaxpr.eqns:
            given = [read(atom) for atom in eqn.invars]
            here = (*stack, eqn.source_info.traceback)
            called = _called(eqn)
            if called is not None:
                made = self.run(called, given, here)
            elif eqn.primitive.name in _IDENTITIES and len(given) == len(eqn.outvars):
                made = given
            else:
                made = self._add(eqn, given, here)
            known.update(zip(eqn.outvars, made, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _add(self, eqn: Any, given: Sequence[int | None], stack: Stack) -> list[int | None]:
        outputs = [self.new(var.aval) for var in eqn.outvars]
        self.equations.append(
            Equation(
                eqn.primitive.name,
                tuple(value for value in given if value is not None),
                tuple(outputs),
                stack,
                tuple(_bodies(eqn)),
                bool(eqn.effects),
            )
        )
        return list(outputs)


def _bodies(eqn: Any) -> Iterator[Jaxpr]:
    """Yield the jaxprs among an equation's parameters."""
    for value in eqn.params.values():
        for each in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(each, (Jaxpr, ClosedJaxpr)):
                yield each.jaxpr if isinstance(each, ClosedJaxpr) else each


def _called(eqn: Any) -> Jaxpr | None:
    """Return the function that an equation calls, if it is a call."""
    if eqn.primitive.name not in _CALLS:
        return None
    bodies = list(_bodies(eqn))
    fits = len(bodies) == 1 and len(bodies[0].invars) == len(eqn.invars)
    return bodies[0] if fits and len(bodies[0].outvars) == len(eqn.outvars) else None


def renumbered(flat: Flat, names: Mapping[int, int]) -> Flat:
    """Return the same jaxpr with other numbers for its values."""

    def all_of(values: Sequence[int]) -> tuple[int, ...]:
        return tuple(names[value] for value in values)

    return Flat(
        all_of(flat.inputs),
        all_of(flat.constants),
        tuple(
            replace(each, inputs=all_of(each.inputs), outputs=all_of(each.outputs))
            for each in flat.equations
        ),
        tuple(None if value is None else names[value] for value in flat.outputs),
        {names[value]: aval for value, aval in flat.types.items()},
    )
