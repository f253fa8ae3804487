"""The arguments of a function with a rule, as arrays that its gradients are tested on.

Python floats are arrays here wherever the function allows it, those that are left to their defaults
too: a rule has tangents for them. Where a function reads one as a number (`if eps > 0`), that one
stays what it is, and cannot be tested.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from vjpgen.testing.examples import ExampleError
from vjpgen.testing.ruled import Ruled
from vjpgen.testing.sides import Side, chosen
from vjpgen.testing.subjects import Subject, bind, floats, left_to_defaults

_READ = (jax.errors.ConcretizationTypeError, jax.errors.TracerIntegerConversionError)


@dataclass(frozen=True, eq=False)
class Bound:
    """A function of arrays, and what is left out.

    Args:
        subject: the function.
        untested: the arguments whose Python floats are no arrays to it.
        defaults: the arguments that are left to their defaults, and have tangents.
    """

    subject: Subject
    untested: Sequence[str] = ()
    defaults: Collection[str] = ()


def bound(about: Ruled, keywords: Mapping[str, Any]) -> Bound:
    """Make a function of arrays.

    Raises:
        ExampleError: the arguments do not fit the function, or nothing can be differentiated.
    """
    defaults = _defaults(about, keywords) if about.defaults_have_slots else {}
    keywords = {**keywords, **defaults}
    named: dict[str, Any] = {
        "keywords": keywords,
        "signature": about.signature,
        "nondiff": about.nondiff,
        "static": about.static,
    }
    slots = floats(about.function, about.arguments, about.rule, **named)

    def subject(numbers: Collection[str]) -> Subject:
        return _canonical(
            bind(
                about.function,
                about.arguments,
                about.rule,
                **named,
                numbers=numbers,
                grad_vars=about.grad_vars,
            )
        )

    try:
        whole = subject(slots)
    except (TypeError, ValueError):
        if not slots:
            raise
    else:
        if not slots or not _reads_numbers(whole):
            return Bound(whole, (), defaults.keys())
    return replace(_one_by_one(subject, slots), defaults=defaults.keys())


def _one_by_one(subject: Callable[[Collection[str]], Subject], slots: Sequence[str]) -> Bound:
    """Take those arguments for arrays that the function, and its rule, take as such."""
    try:
        best = subject(())
    except ExampleError:  # there are Python floats alone
        best = None
    # A rule that reads numbers where none are arrays reads others.
    strict = best is None or not _reads_numbers(best)
    kept: list[str] = []
    for slot in slots:
        with contextlib.suppress(TypeError, ValueError):
            more = subject([*kept, slot])
            if not strict or not _reads_numbers(more):
                best, kept = more, [*kept, slot]
    return Bound(best or subject(slots), [slot for slot in slots if slot not in kept])


def _reads_numbers(subject: Subject) -> bool:
    """Tell whether the function or its rule makes Python numbers of arrays."""
    values = [each.value for each in subject.inputs]
    side = Side(subject.call, chosen(subject.inputs))

    def gradient(arrays: Sequence[Any]) -> Any:
        outputs, pull, _ = side.vjp(arrays)
        return pull([jnp.ones_like(output) for output in outputs])

    try:
        jax.eval_shape(gradient, values)
    except _READ:
        return True
    except Exception:  # that the checks tell of
        return False
    return False


def _canonical(subject: Subject) -> Subject:
    """Bring arrays to the dtypes that JAX computes in, as the caller has set it."""
    return replace(
        subject,
        inputs=tuple(replace(each, value=jnp.asarray(each.value)) for each in subject.inputs),
    )


def _defaults(about: Ruled, keywords: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a call leaves to defaults that have tangents."""
    try:
        given = about.signature.bind(*about.arguments, **keywords).arguments
    except TypeError:
        return {}  # `bind` tells what does not fit
    found = left_to_defaults(about.signature, given)
    return {name: value for name, value in found.items() if name not in about.nondiff}
