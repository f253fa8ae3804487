"""Whether the backward rule is linear in the output tangent."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from vjpgen.testing import directions, rounding
from vjpgen.testing.comparing import Array, compare, host
from vjpgen.testing.directions import scaled
from vjpgen.testing.report import Severity
from vjpgen.testing.sides import outputs_alone
from vjpgen.testing.texts import both, number, place
from vjpgen.testing.tolerances import Tolerance
from vjpgen.testing.trial import Target, Trial

# Of outputs and leaves, so many are tried alone.
_MOST = 4
# By how much more noise a sum of three gradients may have than each has.
_SUMMED = 4.0
Gradients = list[Array]


def check_linear(trial: Trial) -> None:
    """Zero gives zero, sums and multiples carry over; no output's tangent is ignored."""
    gradient = _gradient(trial)
    first, second = _two(trial)
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
    total = [jnp.asarray(np.add(a, b)) for a, b in zip(first, second, strict=True)]
    _compare(
        trial,
        _gradients(gradient, total),
        [a + b for a, b in zip(ones, twos, strict=True)],
        "that of a sum of output tangents is not the sum of theirs",
        _SUMMED,
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
    _check_alone(trial, gradient, ones)


def _two(trial: Trial) -> list[tuple[Any, ...]]:
    """Return two output tangents, which are drawn anew where one was asked for."""
    known = trial.memory["cotangents"][:2]
    if len(known) == 2:
        return known
    inputs = sum(target.size for target in trial.targets)
    outputs = trial.memory["results"][0]
    return directions.cotangents(outputs, seed=trial.settings.seed, count=2, inputs=inputs)[:2]


def _gradient(trial: Trial) -> Callable[[Sequence[Any]], Sequence[Any]]:
    compiled = trial.memory["custom_compiled"]
    infinite = [each.infinite for each in trial.memory["judged"]]

    def gradient(cotangents: Sequence[Any]) -> Sequence[Any]:
        if compiled is None:
            found = trial.memory["pull"](cotangents)
        else:
            found = compiled.call(list(trial.arrays), tuple(cotangents)).gradients
        # no sum holds of infinities, nor of nan
        return [
            each if where is None else np.where(where, 0, host(each))
            for each, where in zip(found, infinite, strict=True)
        ]

    return gradient


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


def _tolerance(trial: Trial, position: int) -> Tolerance:
    fitting: Tolerance = trial.memory["tolerances"][position]
    return rounding.widened(trial, fitting, rounding.of_gradients(trial)[position])


def _compare(
    trial: Trial, found: Gradients, wanted: Gradients, words: str, times: float = 1.0
) -> None:
    for position, target in enumerate(trial.targets):
        if target.claim == "state":
            continue
        tolerance = _tolerance(trial, position)
        tolerance = dataclasses.replace(tolerance, absolute=times * tolerance.absolute)
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
        cotangents = _only(first, alone)
        ours = _gradients(gradient, cotangents)
        theirs = [host(each) for each in reference.call(list(trial.arrays), cotangents).gradients]
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


def _check_alone(
    trial: Trial, gradient: Callable[[Sequence[Any]], Sequence[Any]], whole: Gradients
) -> None:
    """One leaf differentiated alone, or one output used alone, gives the same gradients.

    Then the rest is known to be zero or not to be needed, which rules with `symbolic_zeros` see.
    """
    first = trial.memory["cotangents"][0]
    if not trial.ruled.sees_zeros or len(trial.targets) == len(first) == 1:
        return
    leaves, outputs = range(len(trial.targets))[:_MOST], range(len(first))[:_MOST]

    def alone(arrays: Any, cotangents: Any) -> Any:
        places = [trial.custom.chosen[n] for n in leaves]
        sides = [dataclasses.replace(trial.custom, chosen=(each,)) for each in places]
        by_leaf = [side.gradient(arrays, cotangents)[0] for side in sides]
        return by_leaf, [
            outputs_alone(trial.custom, n).gradient(arrays, cotangents[n : n + 1]) for n in outputs
        ]

    arguments = list(trial.arrays), first
    run = alone
    if trial.memory["custom_compiled"] is not None:
        run = trial.custom.compile(alone, *arguments).call
    by_leaf, by_output = run(*arguments)
    for position, found in zip(leaves, by_leaf, strict=True):
        _tell_alone(trial, position, host(found), whole[position], "it is differentiated alone")
    for output, gradients in zip(outputs, by_output, strict=True):
        wanted = _gradients(gradient, _only(first, output))
        for position, found in enumerate(gradients):
            words = f"only output {output} is used"
            _tell_alone(trial, position, host(found), wanted[position], words)


def _only(cotangents: Sequence[Any], place: int) -> tuple[Any, ...]:
    """Return output tangents of which one is not zero."""
    zeros = (np.zeros(each.shape, each.dtype) for each in cotangents)
    pairs = zip(cotangents, zeros, strict=True)
    return tuple(each if n == place else jnp.asarray(zero) for n, (each, zero) in enumerate(pairs))


def _tell_alone(trial: Trial, position: int, found: Array, wanted: Array, words: str) -> None:
    target = trial.targets[position]
    tolerance = _tolerance(trial, position)
    result = compare(found[None], wanted[None], tolerance)
    if not result.ok:
        texts = both(result.found, result.expected)
        trial.tell(
            "linear",
            f"the gradient of `{target.input.path}` is another one where {words}: "
            f"{texts[0]}{place(result.where[1:])} instead of {texts[1]}",
            target=target,
            found=texts[0],
            expected=texts[1],
            cause="a symbolic zero, or `perturbed`, is not taken care of",
        )
