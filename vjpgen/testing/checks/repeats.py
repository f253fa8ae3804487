"""Whether the rule does the same whenever it is run, and lets no tracer out."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator, Sequence
from typing import Any

import jax

from vjpgen.testing.comparing import compare, host
from vjpgen.testing.nearby import nearby
from vjpgen.testing.sides import Side
from vjpgen.testing.texts import both, place
from vjpgen.testing.tolerances import Tolerance
from vjpgen.testing.trial import NotApplicableError, Trial

_EQUAL = Tolerance(1e-13, 1e-13)


def check_repeat(trial: Trial) -> None:
    """Run again, with another run between, the rule gives the same.

    Python code runs once a trace: the rule is traced several times in one program.
    """
    first, wanted = trial.memory["cotangents"][0], trial.memory["first"]
    moved = trial.custom.put(trial.arrays, nearby(trial, 1))

    def runs(arrays: Any, others: Any, cotangents: Any) -> Any:
        outputs, pull, _ = trial.custom.vjp(arrays)
        twice = pull(cotangents)
        _, other_pull, _ = trial.custom.vjp(others)
        other_pull(cotangents)
        between = pull(cotangents)
        again, pull_again, _ = trial.custom.vjp(arrays)
        return outputs, again, twice, between, pull_again(cotangents)

    arguments = list(trial.arrays), moved, first
    run: Any = runs
    compiled = trial.memory["custom_compiled"]
    if compiled is not None:
        run = trial.custom.compile(runs, *arguments).call
        for _ in range(2):
            step = compiled.call(list(trial.arrays), first)
            _compare(trial, step.gradients, wanted, "the compiled function runs again", _RUN)
    outputs, again, twice, between, last = run(*arguments)
    _compare_outputs(trial, again, outputs)
    _compare(trial, twice, wanted, "everything is run again", _TWICE)
    _compare(trial, between, wanted, "another run comes between the two passes", _STALE)
    _compare(trial, last, wanted, "everything is run again", _TWICE)


_RUN = "a callback that gives other numbers from call to call"
_STALE = "a residual is kept in Python (a global, an attribute), where a later run replaces it"
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
    tolerances = trial.memory["tolerances"]
    for target, ours, theirs, fitting in zip(trial.targets, found, wanted, tolerances, strict=True):
        tolerance = _EQUAL if cause == _RUN else fitting
        result = compare(host(ours)[None], host(theirs)[None], tolerance)
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
        with side.context(), _old_objects_apart(), jax.checking_leaks():
            jax.jit(traced).trace(list(trial.arrays), trial.memory["cotangents"][0])
    except Exception as error:
        text = str(error)
        if "Leaked" not in text:
            raise
        return " ".join(text.split())[:300]
    return None


@contextlib.contextmanager
def _old_objects_apart() -> Iterator[None]:
    """Keep the garbage collector from what exists already.

    To say why a tracer is alive, JAX looks hundreds of times through all objects that the collector
    knows of. Where somebody has frozen objects already, it is left at that: what is thawed is all.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
