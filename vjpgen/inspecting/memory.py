"""Memory over a step, by how long each value of its jaxprs is needed.

The operations run in the order in which JAX traced them. XLA fuses and reorders them, so this is
what the program asks for, not what a device allocates.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from vjpgen.inspecting.flat import Equation, Flat, flatten
from vjpgen.inspecting.origins import Origins
from vjpgen.inspecting.report import Memory, Moment


@dataclass(frozen=True, eq=False)
class Step:
    """A forward pass, then a backward pass.

    Args:
        types: the abstract value of each value.
        forward: the operations of the forward pass.
        backward: the operations of the backward pass.
        cotangents: the values that arrive when the backward pass begins.
        results: outputs of the forward pass. What comes after it in a program has taken them
            before the backward pass begins.
        gradients: outputs of the backward pass.
        free: values that are there anyway, and are not counted.
    """

    types: Mapping[int, Any]
    forward: Sequence[Equation]
    backward: Sequence[Equation]
    cotangents: Sequence[int]
    results: Sequence[int]
    gradients: Sequence[int]
    free: Set[int]


def size_of(aval: Any) -> int:
    """Return the bytes of an array of this abstract value."""
    itemsize = getattr(getattr(aval, "dtype", None), "itemsize", 0)
    return int(getattr(aval, "size", 0)) * itemsize


def over(step: Step, origins: Origins) -> Memory:
    """Find out how many bytes are alive at each operation of a step."""
    equations = [*step.forward, *step.backward]
    births = {value: len(step.forward) for value in step.cotangents}
    births |= _births(equations)
    ends = {value: len(step.forward) - 1 for value in step.results}
    ends |= dict.fromkeys(step.gradients, len(equations) - 1)
    _extend(ends, equations)
    counted = {value: start for value, start in births.items() if value not in step.free}
    sizes = _alive(len(equations), counted, ends, step.types)
    moments = tuple(
        Moment(size + _inner_peak(each), each.operation, origins.of(each))
        for size, each in zip(sizes, equations, strict=True)
    )
    return Memory(moments[: len(step.forward)], moments[len(step.forward) :])


def _births(equations: Sequence[Equation]) -> dict[int, int]:
    return {value: index for index, each in enumerate(equations) for value in each.outputs}


def _extend(ends: dict[int, int], equations: Sequence[Equation]) -> None:
    """Note the last operation that reads each value."""
    for index, each in enumerate(equations):
        for value in each.inputs:
            ends[value] = max(ends.get(value, 0), index)


def _alive(
    count: int, births: Mapping[int, int], ends: Mapping[int, int], types: Mapping[int, Any]
) -> list[int]:
    """Sum the bytes of the values that are alive at each operation."""
    changes = [0] * (count + 1)
    for value, start in births.items():
        if start < count:
            changes[start] += size_of(types[value])
            changes[max(ends.get(value, start), start) + 1] -= size_of(types[value])
    return list(itertools.accumulate(changes))[:count]


def _inner_peak(equation: Equation) -> int:
    """Return the most bytes that a loop or branch needs inside, besides what it takes and gives."""
    return max((_peak(flatten(body)) for body in equation.bodies), default=0)


def _peak(body: Flat) -> int:
    ends: dict[int, int] = {}
    _extend(ends, body.equations)
    outside = {*body.inputs, *body.constants, *body.outputs}
    births = {v: start for v, start in _births(body.equations).items() if v not in outside}
    sizes = _alive(len(body.equations), births, ends, body.types)
    inner = map(_inner_peak, body.equations)
    return max((size + more for size, more in zip(sizes, inner, strict=True)), default=0)
