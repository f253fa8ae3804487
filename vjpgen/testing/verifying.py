"""From a function with a rule and its arguments to a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flax.core.scope import Filter

from vjpgen.testing.report import RuleReport


@dataclass(frozen=True)
class Place:
    """What a report calls a rule, and where it stands.

    Args:
        name: the qualified name of the function.
        filename: the file of the annotation.
        line: its line, from 1.
        column: its column, from 1.
    """

    name: str
    filename: str = ""
    line: int = 0
    column: int = 0


def verify(
    function: Callable[..., Any],
    arguments: Sequence[Any],
    *,
    keywords: Mapping[str, Any] | None = None,
    claims: Mapping[str, Any] | None = None,
    grad_vars: Filter | None = None,
    place: Place | None = None,
    reference: Callable[..., Any] | None = None,
    plain: Callable[..., Any] | None = None,
    seed: int = 0,
    directions: int = 8,
    rtol: float | None = None,
    atol: float | None = None,
) -> RuleReport:
    """Verify one rule on one set of arguments; a rule that is wrong never raises.

    Args:
        function: the function with a rule, or one that calls functions with rules.
        arguments: its positional arguments; for a method the unbound module first.
        keywords: its keyword arguments.
        claims: for each of exact, surrogate, zero and state True or names of slots; by default
            what the rule's annotation claims.
        grad_vars: the collections that are differentiated; by default the rule's.
        place: what the report calls it; by default what the rule says.
        reference: a function to compare with in place of the source's autodiff.
        plain: the function as the source has it, un-annotated; by default its primal.
        seed: what all random directions come from.
        directions: how many are drawn.
        rtol: the relative tolerance; by default what fits the dtype.
        atol: the absolute tolerance; by default what fits the dtype and the scale.

    Raises:
        ExampleError: the arguments do not fit the function, or nothing can be differentiated.
    """
    raise NotImplementedError
