"""Whether the rule does the same whenever it is run, and lets no tracer out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax

from vjpgen.testing.checks.transforms import nearby
from vjpgen.testing.comparing import compare, host
from vjpgen.testing.sides import Side
from vjpgen.testing.texts import both, place
from vjpgen.testing.tolerances import Tolerance
from vjpgen.testing.trial import NotApplicableError, Trial

_RUNS = 3
_EQUAL = Tolerance(1e-13, 1e-13)


def check_repeat(trial: Trial) -> None:
    """Run again, with another run between, the rule gives the same."""
    first = trial.memory["cotangents"][0]
    wanted = trial.memory["first"]
    outputs, pull, _ = trial.custom.vjp(trial.arrays)
    _compare(trial, trial.memory["pull"](first), wanted, "the backward pass is run twice", _TWICE)
    moved = trial.custom.put(trial.arrays, nearby(trial, 1))
    trial.custom.gradient(moved, first)
    _compare(
        trial,
        pull(first),
        wanted,
        "another forward and backward pass is run between the two passes",
        "a residual is kept in Python (a global, an attribute), where a later run replaces it",
    )
    for _ in range(_RUNS - 1):
        again, pull, _ = trial.custom.vjp(trial.arrays)
        _compare_outputs(trial, again, outputs)
        _compare(trial, pull(first), wanted, "everything is run again", _TWICE)


_TWICE = "a random number of Python or NumPy, a global that changes, or state kept in Python"


def _compare_outputs(trial: Trial, found: Sequence[Any], wanted: Sequence[Any]) -> None:
    for position, (ours, theirs) in enumerate(zip(found, wanted, strict=True)):
        result = compare(host(ours)[None], host(theirs)[None], _EQUAL)
        if not result.ok and not _known(trial, ""):
            texts = both(result.found, result.expected)
            trial.tell(
                "repeat",
                f"output {position} is another one when everything is run again: {texts[0]}"
                f"{place(result.where[1:])} instead of {texts[1]}",
                found=texts[0],
                expected=texts[1],
                cause=_TWICE,
            )


def _compare(
    trial: Trial, found: Sequence[Any], wanted: Sequence[Any], words: str, cause: str
) -> None:
    for target, ours, theirs in zip(trial.targets, found, wanted, strict=True):
        result = compare(host(ours)[None], host(theirs)[None], _EQUAL)
        if not result.ok and not _known(trial, target.input.path):
            texts = both(result.found, result.expected)
            trial.tell(
                "repeat",
                f"the gradient of `{target.input.path}` is another one when {words}: {texts[0]}"
                f"{place(result.where[1:])} instead of {texts[1]}",
                target=target,
                found=texts[0],
                expected=texts[1],
                cause=cause,
            )


def _known(trial: Trial, leaf: str) -> bool:
    return any(each.check == "repeat" and each.leaf == leaf for each in trial.findings)


def check_leak(trial: Trial) -> None:
    """No tracer is left behind by a trace of the rule."""
    if trial.memory["custom_compiled"] is None:
        raise NotApplicableError("the rule cannot be compiled")
    found = _leaks(trial, trial.custom)
    if found is None:
        return
    if _leaks(trial, trial.source) is not None:
        raise NotApplicableError("the source itself leaves tracers behind")
    trial.tell(
        "leak",
        f"a trace of the rule leaves a tracer behind: {found}",
        cause="an array is stored in a global, an attribute or a closure that outlives the call",
    )


def _leaks(trial: Trial, side: Side) -> str | None:
    """Trace a gradient with JAX's own check; return what it finds."""

    def traced(arrays: Any, cotangents: Any) -> Any:
        return side.gradient(arrays, cotangents)

    try:
        with side.context(), jax.checking_leaks():
            jax.jit(traced).trace(list(trial.arrays), trial.memory["cotangents"][0])
    except Exception as error:
        text = str(error)
        if "Leaked" not in text:
            raise
        return " ".join(text.split())[:300]
    return None
