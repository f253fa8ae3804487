"""Whether the rule gives the same gradients under JAX's transformations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vjpgen.runtime.leaves import is_extended
from vjpgen.testing import rounding
from vjpgen.testing.comparing import Array, compare, host
from vjpgen.testing.failures import in_short
from vjpgen.testing.nearby import is_inside, nearby
from vjpgen.testing.report import Check
from vjpgen.testing.sides import Side, Step, outputs_only
from vjpgen.testing.texts import both, place
from vjpgen.testing.tolerances import tolerance_of
from vjpgen.testing.trial import NotApplicableError, Trial

_POINTS = 3
# Eagerly, each operation is compiled on its own.
_MOST_OPERATIONS = 30
Gradients = list[Any]
Point = Callable[..., tuple[Any, ...]]  # the outputs at one point


def check_jit(trial: Trial) -> None:
    """Compiled, the gradient is what it is one operation at a time."""
    compiled = trial.memory["custom_compiled"]
    if compiled is None:
        error = trial.memory["custom_error"]
        if trial.memory["source_compiled"] is None:
            raise NotApplicableError(f"the source cannot be compiled ({in_short(error)})")
        trial.tell("jit", f"the rule cannot be compiled: {in_short(error)}")
        return
    count = len(compiled.jaxpr.eqns)
    if count > _MOST_OPERATIONS:
        raise NotApplicableError(
            f"it was compiled all along; its {count} operations are too many to be run one by one"
        )
    found = trial.custom.gradient(trial.arrays, trial.memory["cotangents"][0])
    compare_all(trial, "jit", trial.memory["first"], found, "`jax.jit`")


def check_vmap(trial: Trial) -> None:
    """Mapped over several points, the gradients are those of a loop."""
    _check_mapped(trial, "vmap", _vmapped)


def check_scan(trial: Trial) -> None:
    """In a scan over several points, the gradients are those of a loop."""
    _check_mapped(trial, "scan", _scanned)


def check_checkpoint(trial: Trial) -> None:
    """Under `jax.checkpoint` the gradient is the same."""
    first = trial.memory["cotangents"][0]

    _needs_trace(trial)

    def step(side: Side) -> Step:
        function = outputs_only(side)

        def run(arrays: Any, cotangents: Any) -> Step:
            inner = jax.checkpoint(lambda *values: function(arrays, values))
            outputs, pull = jax.vjp(inner, *side.taken(arrays))
            return Step(outputs, [], list(pull(cotangents)))

        arguments = list(trial.arrays), first
        return side.compile(run, *arguments).call(*arguments)

    found = _tried(trial, step)
    wanted = trial.memory["custom_compiled"].call(list(trial.arrays), first)
    if _same_outputs(trial, "checkpoint", found.outputs, wanted.outputs, "`jax.checkpoint`"):
        compare_all(trial, "checkpoint", found.gradients, wanted.gradients, "`jax.checkpoint`")


def _check_mapped(
    trial: Trial, check: Check, transform: Callable[[Point, Sequence[Any]], Any]
) -> None:
    _needs_trace(trial)
    batches, cotangents, wanted = _points(trial)

    def step(side: Side) -> Step:
        function = outputs_only(side)

        def run(arrays: Any, batches: Any, cotangents: Any) -> Step:
            def every(*values: Any) -> Any:
                return transform(lambda *point: function(arrays, point), values)

            outputs, pull = jax.vjp(every, *batches)
            return Step(outputs, [], list(pull(cotangents)))

        arguments = list(trial.arrays), batches, cotangents
        return side.compile(run, *arguments).call(*arguments)

    found = _tried(trial, step)
    words = f"`jax.{_NAMES[check]}`"
    for number, other in enumerate(wanted):
        outputs = [each[number] for each in map(np.asarray, found.outputs)]
        gradients = [each[number] for each in map(_host, found.gradients)]
        if _same_outputs(trial, check, outputs, other.outputs, words):
            compare_all(trial, check, gradients, other.gradients, words)


def _same_outputs(
    trial: Trial, check: Check, found: Sequence[Any], wanted: Sequence[Any], words: str
) -> bool:
    """Compare outputs; where they differ, gradients need not be compared."""
    dtype = trial.memory["computed_in"]
    noise = rounding.of_outputs(trial)
    for position, (ours, theirs) in enumerate(zip(found, wanted, strict=True)):
        tolerance = tolerance_of(dtype, noise=noise[position])
        result = compare(host(ours)[None], host(theirs)[None], tolerance)
        if result.ok:
            continue
        texts = both(result.found, result.expected)
        draws = any(map(_is_key, trial.arrays))
        message = (
            f"output {position} is another one under {words}: {texts[0]}{place(result.where[1:])} "
            f"instead of {texts[1]}"
        )
        if not any(each.message == message for each in trial.findings):
            trial.tell(
                check,
                message,
                "warning" if draws else "error",
                found=texts[0],
                expected=texts[1],
                cause="other random numbers are drawn there" if draws else _CAUSES.get(check, ""),
            )
        return False
    return True


def _is_key(value: Any) -> bool:
    return jnp.issubdtype(value.dtype, jax.dtypes.prng_key) or value.dtype == np.uint32


def _needs_trace(trial: Trial) -> None:
    if trial.memory["custom_compiled"] is None:
        raise NotApplicableError("the rule cannot be compiled")


def _tried(trial: Trial, step: Callable[[Side], Step]) -> Step:
    """Differentiate the function with its rule; where that fails, see whether the source does."""
    try:
        return step(trial.custom)
    except Exception as error:
        try:
            step(trial.source)
        except Exception:
            raise NotApplicableError(
                f"the source cannot be transformed by it either ({in_short(error)})"
            ) from None
        raise


def _vmapped(function: Point, values: Sequence[Any]) -> Any:
    return jax.vmap(function)(*values)


def _scanned(function: Point, values: Sequence[Any]) -> Any:
    return jax.lax.scan(lambda carry, point: (carry, function(*point)), None, tuple(values))[1]


def _points(trial: Trial) -> tuple[list[Any], tuple[Any, ...], list[Step]]:
    """Return several points near the example's, cotangents, and the gradients by a loop."""
    if "points" not in trial.memory:
        trial.memory["points"] = _made_points(trial)
    return trial.memory["points"]


def _made_points(trial: Trial) -> tuple[list[Any], tuple[Any, ...], list[Step]]:
    values = trial.custom.taken(trial.arrays)
    if any(is_extended(value) for value in values):
        raise NotApplicableError("a leaf is of an extended dtype")
    points = [values]
    for number in range(1, _POINTS):
        moved = nearby(trial, number)
        points.append(moved if is_inside(trial, moved) else values)
    weights = trial.memory["cotangents"][:_POINTS]
    weights = [weights[number % len(weights)] for number in range(_POINTS)]
    call = trial.memory["custom_compiled"].call
    wanted = [
        call(trial.custom.put(trial.arrays, point), weight)
        for point, weight in zip(points, weights, strict=True)
    ]
    batches = [np.stack([*map(np.asarray, each)]) for each in zip(*points, strict=True)]
    cotangents = tuple(np.stack([*map(np.asarray, each)]) for each in zip(*weights, strict=True))
    return batches, cotangents, wanted


def compare_all(
    trial: Trial, check: Check, found: Gradients, wanted: Gradients, words: str
) -> None:
    """Compare gradients leaf by leaf; each leaf is told of once a check."""
    for position, target in enumerate(trial.targets):
        fitting = trial.memory["tolerances"][position]
        tolerance = rounding.widened(trial, fitting, rounding.of_gradients(trial)[position])
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
