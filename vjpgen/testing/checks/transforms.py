"""Whether the rule gives the same gradients under JAX's transformations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vjpgen.runtime.leaves import is_extended
from vjpgen.testing.comparing import Array, compare, host
from vjpgen.testing.directions import eighths, generator
from vjpgen.testing.failures import in_short
from vjpgen.testing.report import Check
from vjpgen.testing.sides import Side, outputs_only
from vjpgen.testing.texts import both, place
from vjpgen.testing.trial import NotApplicableError, Trial

_POINTS = 3
Gradients = list[Any]
Function = Callable[[Sequence[Any], Sequence[Any], Sequence[Any]], Gradients]


def check_jit(trial: Trial) -> None:
    """Compiled, the gradient is the same."""
    compiled = trial.memory["custom_compiled"]
    if compiled is None:
        error = trial.memory["custom_compiled_error"]
        if trial.memory["source_compiled"] is None:
            raise NotApplicableError(f"the source cannot be compiled ({in_short(error)})")
        trial.tell("jit", f"the rule cannot be compiled: {in_short(error)}")
        return
    first = trial.memory["cotangents"][0]
    compare_all(
        trial, "jit", compiled.call(trial.arrays, first), trial.memory["first"], "`jax.jit`"
    )


def check_vmap(trial: Trial) -> None:
    """Mapped over several points, the gradients are those of a loop, in either order."""
    _check_mapped(trial, "vmap", _vmapped)


def check_scan(trial: Trial) -> None:
    """In a scan over several points, the gradients are those of a loop, in either order."""
    _check_mapped(trial, "scan", _scanned)


def check_checkpoint(trial: Trial) -> None:
    """Under `jax.checkpoint` the gradient is the same."""
    first = trial.memory["cotangents"][0]

    def gradient(side: Side) -> Gradients:
        function = outputs_only(side)

        def run(arrays: Any, cotangents: Any) -> Gradients:
            inner = jax.checkpoint(lambda *values: function(arrays, values))
            _, pull = jax.vjp(inner, *side.taken(arrays))
            return list(pull(cotangents))

        with side.context():
            return jax.jit(run)(list(trial.arrays), first)

    found = _tried(trial, "checkpoint", gradient)
    compare_all(trial, "checkpoint", found, trial.memory["first"], "`jax.checkpoint`")


def _check_mapped(trial: Trial, check: Check, transform: Callable[[Side], Function]) -> None:
    _needs_trace(trial)
    batches, cotangents, wanted = _points(trial)

    def gradients(side: Side) -> tuple[Gradients, Gradients]:
        with side.context():
            run = jax.jit(transform(side))
            return run(list(trial.arrays), batches, cotangents)

    inside, outside = _tried(trial, check, gradients)
    for number in range(_POINTS):
        for words, found in (("", inside), (" of the function, differentiated,", outside)):
            slices = [each[number] for each in found]
            compare_all(trial, check, slices, wanted[number], f"`jax.{_NAMES[check]}`{words}")


def _needs_trace(trial: Trial) -> None:
    if trial.memory["custom_compiled"] is None:
        raise NotApplicableError("the rule cannot be compiled")


def _tried(trial: Trial, check: Check, gradient: Callable[[Side], Any]) -> Any:
    """Differentiate the function with its rule; where that fails, see whether the source does."""
    try:
        return gradient(trial.custom)
    except Exception as error:
        try:
            gradient(trial.source)
        except Exception:
            raise NotApplicableError(
                f"the source cannot be transformed by it either ({in_short(error)})"
            ) from None
        raise


def _vmapped(side: Side) -> Function:
    function = outputs_only(side)

    def run(arrays: Any, batches: Any, cotangents: Any) -> Any:
        def one(values: Any, weights: Any) -> Gradients:
            return side.gradient(side.put(arrays, values), weights)

        def every(*values: Any) -> Any:
            return jax.vmap(lambda *point: function(arrays, point))(*values)

        _, pull = jax.vjp(every, *batches)
        return jax.vmap(one)(list(batches), cotangents), list(pull(cotangents))

    return run


def _scanned(side: Side) -> Function:
    function = outputs_only(side)

    def run(arrays: Any, batches: Any, cotangents: Any) -> Any:
        def one(carry: Any, both_: Any) -> Any:
            values, weights = both_
            return carry, side.gradient(side.put(arrays, values), weights)

        def every(*values: Any) -> Any:
            return jax.lax.scan(
                lambda carry, point: (carry, function(arrays, point)), None, tuple(values)
            )[1]

        _, pull = jax.vjp(every, *batches)
        _, inside = jax.lax.scan(one, None, (list(batches), cotangents))
        return inside, list(pull(cotangents))

    return run


def _points(trial: Trial) -> tuple[list[Any], tuple[Any, ...], list[Gradients]]:
    """Return several points near the example's, cotangents, and the gradients by a loop."""
    if "points" not in trial.memory:
        trial.memory["points"] = _made_points(trial)
    return trial.memory["points"]


def _made_points(trial: Trial) -> tuple[list[Any], tuple[Any, ...], list[Gradients]]:
    values = trial.custom.taken(trial.arrays)
    if any(is_extended(value) for value in values):
        raise NotApplicableError("a leaf is of an extended dtype")
    points = [values]
    for number in range(1, _POINTS):
        moved = nearby(trial, number)
        outputs = trial.plain.results(trial.custom.put(trial.arrays, moved))[0]
        points.append(moved if all(np.isfinite(host(each)).all() for each in outputs) else values)
    weights = trial.memory["cotangents"][:_POINTS]
    weights = [weights[number % len(weights)] for number in range(_POINTS)]
    call = trial.memory["custom_compiled"].call
    wanted = [
        call(trial.custom.put(trial.arrays, point), weight)
        for point, weight in zip(points, weights, strict=True)
    ]
    batches = [jnp.stack(each) for each in zip(*points, strict=True)]
    cotangents = tuple(jnp.stack(each) for each in zip(*weights, strict=True))
    return batches, cotangents, wanted


def nearby(trial: Trial, number: int) -> list[Any]:
    """Return the differentiated arrays a little off the example's, signs and zeros as they are.

    An array of zeros alone, as a bias is at first, is moved off zero.
    """
    moved = []
    for position, value in enumerate(trial.custom.taken(trial.arrays)):
        drawn = eighths(generator(trial.settings.seed, 3, number, position), value.shape) / 16
        factor = jnp.asarray(drawn).astype(value.dtype)
        is_zero = not host(value).any()
        moved.append(factor if is_zero else value * (1 + factor))
    return moved


def compare_all(
    trial: Trial, check: Check, found: Gradients, wanted: Gradients, words: str
) -> None:
    """Compare gradients leaf by leaf; each leaf is told of once a check."""
    for position, target in enumerate(trial.targets):
        tolerance = trial.memory["tolerances"][position]
        ours, theirs = (_host(each[position]) for each in (found, wanted))
        result = compare(ours[None], theirs[None], tolerance)
        known = any(
            each.check == check and each.leaf == target.input.path for each in trial.findings
        )
        if result.ok or known:
            continue
        texts = both(result.found, result.expected)
        trial.tell(
            check,
            f"the gradient of `{target.input.path}` is another one under {words}: {texts[0]}"
            f"{place(result.where[1:])} instead of {texts[1]}",
            target=target,
            found=texts[0],
            expected=texts[1],
            cause=_CAUSES.get(check, ""),
        )


def _host(value: Any) -> Array:
    return host(value.astype(np.float32) if is_extended(value) else value)


_NAMES = {"vmap": "vmap", "scan": "lax.scan"}
_CAUSES = {
    "jit": "Python values that change from call to call, as a global or a random number",
    "vmap": "a reduction over all axes, a fixed axis number, or a shape that is read as a size",
    "scan": "state that is kept in Python from the forward to the backward pass",
    "checkpoint": "state that is kept in Python from the forward to the backward pass",
}
