"""Whether the backward rule is linear in the output tangent."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from vjpgen.testing.comparing import Array, compare, host
from vjpgen.testing.directions import scaled
from vjpgen.testing.report import Severity
from vjpgen.testing.sides import outputs_alone
from vjpgen.testing.texts import both, number, place
from vjpgen.testing.tolerances import Tolerance
from vjpgen.testing.trial import Target, Trial

# Of outputs and leaves, so many are tried alone.
_MOST = 4
Gradients = list[Array]


def check_linear(trial: Trial) -> None:
    """Zero gives zero, sums and multiples carry over; no output's tangent is ignored."""
    gradient = _gradient(trial)
    first, second = trial.memory["cotangents"][:2]
    ones, twos = _gradients(gradient, first), _gradients(gradient, second)
    zero = _gradients(gradient, scaled(first, 0.0))
    for target, found in zip(trial.targets, zero, strict=True):
        if found.any() and target.claim != "state":
            where = np.unravel_index(np.argmax(np.abs(found)), found.shape)
            text = number(found[where].item())
            trial.tell(
                "linear",
                f"the gradient of `{target.input.path}` is not zero where the output tangent is: "
                f"{text}{place([int(i) for i in where])}",
                _severity(target),
                target=target,
                found=text,
                expected="0",
                cause="something is added that does not depend on the output tangent",
            )
    total = [jnp.add(a, b) for a, b in zip(first, second, strict=True)]
    _compare(
        trial,
        _gradients(gradient, total),
        [a + b for a, b in zip(ones, twos, strict=True)],
        "that of a sum of output tangents is not the sum of theirs",
    )
    for factor in _factors(trial):
        _compare(
            trial,
            _gradients(gradient, scaled(first, factor)),
            [factor * each for each in ones],
            f"{number(factor)} times the output tangent does not give {number(factor)} times as "
            "much",
        )
    _check_outputs(trial, gradient)
    _check_alone(trial, ones)


def _gradient(trial: Trial) -> Callable[[Sequence[Any]], Sequence[Any]]:
    compiled = trial.memory["custom_compiled"]
    if compiled is None:
        return trial.memory["pull"]
    return lambda cotangents: compiled.call(trial.arrays, tuple(cotangents))


def _gradients(
    gradient: Callable[[Sequence[Any]], Sequence[Any]], cotangents: Sequence[Any]
) -> Gradients:
    return [host(each) for each in gradient(tuple(cotangents))]


def _factors(trial: Trial) -> tuple[float, ...]:
    """Return powers of two, by which every dtype multiplies exactly."""
    is_narrow = np.dtype(trial.memory["computed_in"]).name == "float16"
    return (-1.0, 16.0, 0.0625) if is_narrow else (-1.0, 1024.0, 2.0**-10)


def _severity(target: Target) -> Severity:
    """What is claimed to be the true gradient is linear; others may differ on purpose."""
    if target.claim == "exact":
        return "error"
    return "warning" if not target.claim else "note"


def _compare(trial: Trial, found: Gradients, wanted: Gradients, words: str) -> None:
    for position, target in enumerate(trial.targets):
        if target.claim == "state":
            continue
        tolerance = trial.memory["tolerances"][position]
        result = compare(found[position][None], wanted[position][None], tolerance)
        known = any(
            each.check == "linear" and each.leaf == target.input.path for each in trial.findings
        )
        if result.ok or known:
            continue
        texts = both(result.found, result.expected)
        trial.tell(
            "linear",
            f"the gradient of `{target.input.path}` is not linear in the output tangent: {words} "
            f"({texts[0]}{place(result.where[1:])} instead of {texts[1]})",
            _severity(target),
            target=target,
            found=texts[0],
            expected=texts[1],
            cause="the tangent is clipped, normalized, squared, rounded or its sign is taken",
        )


# -- single outputs and leaves ---------------------------------------------------------------------


def _check_outputs(trial: Trial, gradient: Callable[[Sequence[Any]], Sequence[Any]]) -> None:
    """Name the outputs whose tangents the rule ignores."""
    first, reference = trial.memory["cotangents"][0], trial.memory["source_compiled"]
    if len(first) < 2 or reference is None:
        return
    for alone in range(len(first)):
        cotangents = tuple(
            each if n == alone else jnp.zeros_like(each) for n, each in enumerate(first)
        )
        ours = _gradients(gradient, cotangents)
        theirs = [host(each) for each in reference.call(trial.arrays, cotangents)]
        matters = [
            target
            for target, mine, other in zip(trial.targets, ours, theirs, strict=True)
            if target.claim not in ("zero", "state") and other.any() and not mine.any()
        ]
        if matters and not any(each.any() for each in ours):
            strict = any(target.claim == "exact" for target in matters)
            trial.tell(
                "linear",
                f"the tangent of output {alone} is ignored: all gradients are zero, where those of "
                f"{', '.join(f'`{each.input.path}`' for each in matters)} are not",
                "error" if strict else "warning",
                cause="the backward rule leaves an element of the output tangent out",
            )


def _check_alone(trial: Trial, whole: Gradients) -> None:
    """One leaf differentiated alone, or one output used alone, gives the same gradients.

    Then the rest is known to be zero or not to be needed, which rules with `symbolic_zeros` see.
    """
    first = trial.memory["cotangents"][0]
    if len(trial.targets) > 1:
        for position, target in enumerate(trial.targets[:_MOST]):
            side = dataclasses.replace(trial.custom, chosen=trial.custom.chosen[position:][:1])
            found = host(side.gradient(trial.arrays, first)[0])
            _tell_alone(trial, target, found, whole[position], position, "differentiated alone")
    if len(first) > 1:
        for alone in range(len(first))[:_MOST]:
            side = outputs_alone(trial.custom, alone)
            found = side.gradient(trial.arrays, first[alone : alone + 1])
            others = tuple(
                each if n == alone else jnp.zeros_like(each) for n, each in enumerate(first)
            )
            wanted = trial.custom.gradient(trial.arrays, others)
            for position, target in enumerate(trial.targets):
                words = f"only output {alone} is used"
                mine, other = host(found[position]), host(wanted[position])
                _tell_alone(trial, target, mine, other, position, words)


def _tell_alone(
    trial: Trial, target: Target, found: Array, wanted: Array, position: int, words: str
) -> None:
    tolerance: Tolerance = trial.memory["tolerances"][position]
    result = compare(found[None], wanted[None], tolerance)
    if not result.ok:
        texts = both(result.found, result.expected)
        trial.tell(
            "linear",
            f"the gradient of `{target.input.path}` is another one where "
            f"{'it is ' if words.startswith('diff') else ''}{words}: "
            f"{texts[0]}{place(result.where[1:])} instead of {texts[1]}",
            target=target,
            found=texts[0],
            expected=texts[1],
            cause="a symbolic zero, or `perturbed`, is not taken care of",
        )
