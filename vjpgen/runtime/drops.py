"""What a rule drops, and how that is said.

Two kinds of tangents have no place in what a backward rule returns: those of differentiated
values without a slot, and those that arrive at variables which the call has updated.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import os
import sys
import warnings
from collections.abc import Iterator, Sequence, Set
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import flax
import jax
from flax.linen import summary
from jax.custom_derivatives import SymbolicZero

from vjpgen.runtime.errors import DroppedTangentWarning, TangentError
from vjpgen.runtime.leaves import is_differentiable
from vjpgen.runtime.liveness import perturbed_among
from vjpgen.runtime.outcomes import Outcome
from vjpgen.runtime.rule import Rule

if TYPE_CHECKING:
    from vjpgen.runtime.splitting import Split

# Frames of these stand between a warning and the user's own code.
_LIBRARIES = (
    *(f"{Path(str(file)).parent}{os.sep}" for file in (jax.__file__, flax.__file__, __file__)),
    contextlib.__file__,
)


@dataclasses.dataclass(frozen=True)
class Complaint:
    """One thing to say: a warning or, under `missing=error`, an error."""

    message: str
    error: bool

    def say(self) -> bool:
        """Warn or raise, unless it is collected or nobody asks; tell whether it was said."""
        collected = _collected.get()
        if collected is not None:
            collected.append(self)
            return False
        if _is_counting():
            return False
        if self.error:
            raise TangentError(self.message)
        warnings.warn(self.message, DroppedTangentWarning, stacklevel=_user_level())
        return True


_collected: contextvars.ContextVar[list[Complaint] | None] = contextvars.ContextVar(
    "collected", default=None
)


@contextlib.contextmanager
def collected() -> Iterator[list[Complaint]]:
    """Collect complaints instead of saying them."""
    found: list[Complaint] = []
    token = _collected.set(found)
    try:
        yield found
    finally:
        _collected.reset(token)


_around: contextvars.ContextVar[tuple[Split, ...]] = contextvars.ContextVar("around", default=())


@contextlib.contextmanager
def around(split: Split) -> Iterator[None]:
    """Enter a run of a call."""
    token = _around.set((*_around.get(), split))
    try:
        yield
    finally:
        _around.reset(token)


def tell_around() -> None:
    """Tell the calls whose runs one stands in that it may drop something."""
    for split in _around.get():
        split.holds_dropping = True


def without_slot(rule: Rule, labels: Sequence[str], hint: str) -> Complaint:
    """Complain of differentiated values that have no slot."""
    return Complaint(
        f"{rule.title} drops the gradient of {_names(labels)}: differentiated, but the rule has no "
        "slot for it, so its gradient is zero; pass it as an argument, name its collection in "
        f"grad_vars, or write missing=autodiff or missing=zero in the annotation{hint}",
        rule.missing == "error",
    )


def through_updates(rule: Rule, labels: Sequence[str]) -> Complaint:
    """Complain of tangents that arrived at updated variables."""
    return Complaint(
        f"{rule.title} drops the gradient of {_names(labels)}: its updated value is "
        "differentiated, but a rule is given the tangents of the output alone, so the gradient "
        "through the update is zero; return the value, too, or write missing=autodiff or "
        "missing=zero in the annotation",
        rule.missing == "error",
    )


def _names(labels: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(labels))


def _is_counting() -> bool:
    """Tell whether `tabulate` counts operations: it differentiates whatever there is for that."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename == summary.__file__:
            return True
        frame = frame.f_back
    return False


def _user_level() -> int:
    """Return the `stacklevel` of the nearest frame that is the user's own."""
    frame: FrameType | None = sys._getframe(1)
    level = 1
    while frame is not None:
        code = frame.f_code
        if not code.co_filename.startswith(_LIBRARIES) and not code.co_name.startswith("_vjp_"):
            return level
        frame = frame.f_back
        level += 1
    return 2


def with_honest_tangents(
    split: Split, outcome: Outcome, outputs: Sequence[Any], own: Set[int]
) -> Sequence[Any]:
    """Return the outputs of a call, its updated variables differentiated only where they are.

    JAX takes every output of a `jax.custom_vjp` to be differentiated where any operand is. A
    variable that does not depend on one would raise an alarm wherever it is used next.

    Args:
        split: the call, before it is published.
        outcome: its outcome.
        outputs: its flat outputs.
        own: the places of those that are the caller's own arrays.
    """
    shielded = split.rule.optimize_remat and split.strict
    first = 0 if shielded else outcome.width
    places = [
        place
        for place in range(first, len(outputs))
        if place not in own and is_differentiable(outputs[place])
    ]
    if not places:
        return outputs
    chosen = tuple(outputs[place] for place in places)

    @jax.custom_jvp
    def same(_operands: Any, values: Any) -> Any:
        return values

    def rule(primals: Any, tangents: Any) -> Any:
        operands, values = primals
        perturbed = frozenset(perturbed_among(tangents[0]))
        if shielded:  # the forward rule was not told
            split.report_dropped(operands, perturbed)
        live = split.live_updates(outcome, operands, perturbed)
        return values, tuple(
            tangent if place < outcome.width or place in live else _zero_of(value)
            for place, value, tangent in zip(places, values, tangents[1], strict=True)
        )

    same.defjvp(rule, symbolic_zeros=True)
    if shielded and outcome.updates:
        chosen = _shielded(split, outcome, places, chosen)
    outputs = list(outputs)
    for place, value in zip(places, same(split.operands, chosen), strict=True):
        outputs[place] = value
    return outputs


def _zero_of(value: Any) -> SymbolicZero:
    return SymbolicZero.from_primal_value(value)


def _shielded(
    split: Split, outcome: Outcome, places: Sequence[int], values: tuple[Any, ...]
) -> tuple[Any, ...]:
    """Complain of tangents that arrive, where JAX does not tell the backward rule of zeros."""

    @jax.custom_vjp
    def same(*values: Any) -> tuple[Any, ...]:
        return values

    def forward(*values: Any) -> Any:
        return tuple(value.value for value in values), None

    def backward(_: None, tangents: Sequence[Any]) -> tuple[Any, ...]:
        arrived = {places[index] for index in perturbed_among(tangents)}
        arrived -= {*range(outcome.width), *outcome.unchanged}
        split.report_arrived(outcome, sorted(arrived))
        return tuple(None if isinstance(t, SymbolicZero) else t for t in tangents)

    same.defvjp(forward, backward, symbolic_zeros=True)
    return same(*values)
