"""Gradients in the example's own precision: what they are worth there, and how noisy they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vjpgen.testing.comparing import Array, host, stacked
from vjpgen.testing.directions import direction, generator
from vjpgen.testing.sides import Compiled, Side, lowered
from vjpgen.testing.tolerances import coarsest, epsilon
from vjpgen.testing.trial import Trial

DIRECTIONS = 4
_MOST_UNIT = 1e-5


@dataclass(frozen=True, eq=False)
class Rough:
    """Gradients in low precision along the first output directions.

    Args:
        arrays: the arrays.
        custom: the rule's gradients; None where they could not be computed.
        reference: those of the source.
        outputs: what the forward rule gives, and what the source does; None where not known.
        jaxprs: what was computed.
        shaken: by how much the source's gradients change where arrays do by a rounding error.
        error: what the rule raised.
    """

    arrays: Sequence[Any]
    custom: list[Array] | None
    reference: list[Array] | None
    outputs: Sequence[Sequence[Any] | None]
    jaxprs: Sequence[Any]
    shaken: Sequence[float]
    error: Exception | None

    def dtype(self, position: int) -> Any:
        """Return the dtype of an array."""
        return self.arrays[position].dtype


def rough(trial: Trial) -> Rough:
    """Compute gradients in the example's own precision, once; in single where that is double."""
    if "rough" not in trial.memory:
        is_double = any(map(_is_double, trial.own))
        arrays = [lowered(each) if is_double else each for each in trial.own]
        with jax.enable_x64(False):
            trial.memory["rough"] = _rough(trial, arrays)
    return trial.memory["rough"]


def is_double(trial: Trial) -> bool:
    """Tell whether the example itself is in double precision."""
    return any(map(_is_double, trial.own))


def _is_double(value: Any) -> bool:
    return jnp.issubdtype(value.dtype, np.inexact) and jnp.finfo(value.dtype).bits == 64


def _rough(trial: Trial, arrays: Sequence[Any]) -> Rough:
    found: list[list[Array] | None] = []
    outputs: list[Sequence[Any] | None] = []
    jaxprs: list[Any] = []
    error: Exception | None = None
    shaken = [0.0] * len(trial.targets)
    for side in (trial.custom, trial.source):
        try:
            given, gradients, compiled = _gradients(trial, side, arrays)
            found.append(gradients)
            outputs.append(given)
            if compiled is not None:
                jaxprs.append(compiled.jaxpr)
                if side is trial.source:
                    shaken = _shaken(trial, compiled, arrays, gradients)
        except Exception as caught:
            error = caught if side is trial.custom else error
            found.append(None)
            outputs.append(None)
    return Rough(arrays, found[0], found[1], outputs, jaxprs, shaken, error)


def _shaken(
    trial: Trial, compiled: Compiled, arrays: Sequence[Any], gradients: Sequence[Array]
) -> list[float]:
    """Measure what a rounding error of the arrays makes of gradients that larger numbers leave."""
    unit = epsilon(coarsest([compiled.jaxpr], np.float32))
    if unit > _MOST_UNIT:  # in half precision that is a step, and no rounding error
        return [0.0] * len(gradients)
    moved = [
        jnp.asarray((host(value) * (1 + unit * np.sign(host(line)))).astype(value.dtype))
        for line, value in (
            (direction(generator(trial.settings.seed, 7, number), value), value)
            for number, value in enumerate(trial.source.taken(arrays))
        )
    ]
    cotangents = _cotangents(trial, trial.source, arrays)
    found = compiled.call(trial.source.put(arrays, moved), cotangents[0]).gradients
    with np.errstate(invalid="ignore"):
        apart = [np.abs(host(a) - b[0]) for a, b in zip(found, gradients, strict=True)]
    return [float(np.max(each, where=np.isfinite(each), initial=0.0)) for each in apart]


def _gradients(
    trial: Trial, side: Side, arrays: Sequence[Any]
) -> tuple[Sequence[Any], list[Array], Compiled | None]:
    """Return outputs, gradients, and what was compiled; None of that where it ran eagerly."""
    directions = _cotangents(trial, side, arrays)
    known = trial.memory["custom_compiled" if side is trial.custom else "source_compiled"]
    if known is not None:
        compiled = side.compiled(arrays, directions[0])
        steps = [compiled.call(list(arrays), each) for each in directions]
        gradients = stacked([step.gradients for step in steps])
        return steps[0].outputs, gradients, compiled
    outputs, pull, _ = side.vjp(arrays)
    return outputs, stacked([pull(each) for each in directions]), None


def _cotangents(trial: Trial, side: Side, arrays: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Return the first output directions in the dtypes of a side's outputs."""
    with side.context():
        kinds = jax.eval_shape(lambda values: side.results(values)[0], list(arrays))
    return [
        tuple(
            jnp.asarray(np.asarray(each).astype(out.dtype))
            for each, out in zip(cotangents, kinds, strict=True)
        )
        for cotangents in trial.memory["cotangents"][:DIRECTIONS]
    ]
