"""Measure a rule beside plain autodiff: from a subject to a report."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax.extend.core import jaxpr_as_fun

from vjpgen.inspecting.costs import program_of
from vjpgen.inspecting.flat import Flat, flatten, renumbered
from vjpgen.inspecting.memory import Step, over, size_of
from vjpgen.inspecting.origins import Origins
from vjpgen.inspecting.report import KINDS, Given, Memory, Report, Side, Tensor
from vjpgen.inspecting.tracing import Traces, trace, types_of
from vjpgen.runtime.recursion import plain
from vjpgen.testing.subjects import Input, Subject


@dataclass(frozen=True)
class About:
    """What a report says of the rule besides what is measured.

    Args:
        name: the rule's function.
        place: file and line of its annotation.
        called: the function that the example is for.
        root: the folder of the project.
    """

    name: str
    place: str
    called: str
    root: str


def measure(subject: Subject, about: About) -> Report:
    """Trace and compile a subject with its rules and without.

    Args:
        subject: a function and the arrays to call it with; shapes and dtypes are enough.
        about: what it is called.
    """
    origins = Origins(about.root)
    rule = _side(subject, origins)
    with plain():
        autodiff = _side(subject, origins)
    types = types_of([each.value for each in subject.inputs])
    given = tuple(
        Given(each.name, _text(kind), each.differentiated)
        for each, kind in zip(subject.inputs, types, strict=True)
    )
    backend = jax.default_backend()
    return Report(about.name, about.place, about.called, given, rule, autodiff, backend)


def residual_bytes(subject: Subject) -> int:
    """Return the bytes that a subject computes and keeps for its backward pass."""
    traces = trace(subject)
    forward = flatten(traces.forward.jaxpr)
    kept = _residuals(forward, traces.results, subject.inputs, Origins(""))
    return sum(tensor.size for tensor in kept if tensor.kind == "computed")


def _side(subject: Subject, origins: Origins) -> Side:
    traces = trace(subject)
    forward, backward = flatten(traces.forward.jaxpr), flatten(traces.backward.jaxpr)
    lean = _without_arguments(traces, forward)
    programs = {
        "primal": program_of(traces.primal),
        "forward": program_of(lean),
        "backward": program_of(traces.backward),
        "step": program_of(traces.step),
    }
    return Side(
        _residuals(forward, traces.results, subject.inputs, origins),
        programs,
        _memory(forward, backward, traces, origins),
    )


def _without_arguments(traces: Traces, forward: Flat) -> Any:
    """Return the forward pass without the residuals that are arguments: a step copies none."""
    given = {None, *forward.inputs}
    kept = {
        value: place
        for place, value in enumerate(forward.outputs)
        if place >= traces.results and value not in given
    }
    places = [*range(traces.results), *kept.values()]
    function = jaxpr_as_fun(traces.forward.jaxpr)

    def lean(*arrays: Any) -> list[Any]:
        outputs = function(*arrays)
        return [outputs[place] for place in places]

    return jax.jit(lean).trace(*traces.types)


def _text(kind: Any) -> str:
    return f"{kind.dtype}[{','.join(map(str, kind.shape))}]"


# -- residuals -------------------------------------------------------------------------------------


def _residuals(
    forward: Flat, results: int, inputs: Sequence[Input], origins: Origins
) -> tuple[Tensor, ...]:
    """Say what each value is that the forward pass keeps, each once."""
    names = {value: each.name for value, each in zip(forward.inputs, inputs, strict=True)}
    makers, constants = forward.makers(), forward.independent()
    outputs = set(forward.outputs[:results])
    found = []
    for value in dict.fromkeys(forward.outputs[results:]):
        if value is None:
            continue
        aval = forward.types[value]
        about: dict[str, Any] = {"kind": "argument", "name": names.get(value, "")}
        if value not in names:
            about = {"kind": "constant" if value in constants else "computed"}
            if value in makers:
                about["operation"] = makers[value][0].operation
                about["origin"] = origins.of(*makers[value])
        found.append(
            Tensor(
                str(aval.dtype),
                tuple(aval.shape),
                size_of(aval),
                is_output=value in outputs,
                **about,
            )
        )
    return tuple(sorted(found, key=lambda each: (KINDS.index(each.kind), -each.size)))


# -- memory ----------------------------------------------------------------------------------------


def _memory(forward: Flat, backward: Flat, traces: Traces, origins: Origins) -> Memory:
    """Follow memory through the forward pass and then the backward pass."""
    residuals = forward.outputs[traces.results :]
    kept, cotangents = backward.inputs[: len(residuals)], backward.inputs[len(residuals) :]
    fresh = itertools.count(len(forward.types))
    names = {value: next(fresh) for value in backward.types}
    names |= {there: here for there, here in zip(kept, residuals, strict=True) if here is not None}
    after = renumbered(backward, names)
    literals = {names[there] for there, here in zip(kept, residuals, strict=True) if here is None}
    step = Step(
        types={**after.types, **forward.types},
        forward=forward.equations,
        backward=after.equations,
        cotangents=[names[value] for value in cotangents],
        results=[value for value in forward.outputs[: traces.results] if value is not None],
        gradients=[value for value in after.outputs if value is not None],
        free=forward.independent() | after.independent() | literals | set(forward.inputs),
    )
    return over(step, origins)
