"""Derivatives of the source along lines through one leaf, by finite differences."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from vjpgen.testing.comparing import Array, Comparison, compare, host
from vjpgen.testing.differences import Slope, pairing, parts, slope
from vjpgen.testing.directions import direction, generator
from vjpgen.testing.tolerances import Tolerance, coarsest, epsilon
from vjpgen.testing.trial import Trial

# Leaves with no more components than this are probed along every axis.
_AXES = 16
_MOST_AXES = 256  # where there is no other reference
_RANDOM = 2
_KINKS = 64
# Seconds after which a trial probes along fewer lines, and after which along none.
_SLOW, _ENOUGH = 1.5, 6.0
_COARSE = 1e-5


@dataclass(frozen=True, eq=False)
class Probe:
    """The derivative of the source along some lines through a leaf, paired with cotangents.

    Args:
        lines: the directions, one a row.
        least: the least that each derivative may be, one row an output direction, one column a
            line; at a kink, the lesser of the derivatives of both sides.
        most: the most that it may be.
        tolerance: by how much a gradient may differ besides.
    """

    lines: Array
    least: Array
    most: Array
    tolerance: Tolerance

    def compare(self, gradients: Array) -> Comparison:
        """Compare a stack of gradients with what the derivatives may be."""
        flat = gradients.reshape(gradients.shape[0], -1)
        along = np.real(flat @ self.lines.T)
        nearest = np.clip(along, self.least, self.most)
        finite = np.abs(nearest)[np.isfinite(nearest)]
        allowed = self.tolerance.allowed(nearest, float(np.max(finite, initial=0.0)))
        wrong = ~(np.abs(along - nearest) <= allowed)
        # what is within its allowance is as good as equal
        nearest = np.where(np.isfinite(nearest), nearest, 0.0)
        return compare(np.where(wrong, along, nearest), nearest, Tolerance(0.0, 0.0))


def probe(trial: Trial, number: int) -> Probe | None:
    """Probe a leaf, once; None where finite differences say nothing."""
    known: dict[int, Probe | None] = trial.memory.setdefault("probes", {})
    if number not in known:
        known[number] = _probe(trial, number)
    return known[number]


def _probe(trial: Trial, number: int) -> Probe | None:
    value = host(trial.taken_value(number))
    spent = trial.memory.get("probing", 0.0)
    if value.size == 0 or spent > _ENOUGH or _precision(trial) > _COARSE:
        return None
    start = time.perf_counter()
    alone = trial.memory.get("reference") is None
    axes = value.size <= (_MOST_AXES if alone else _AXES) and spent < _SLOW
    lines = [*_random_lines(trial, number, value), *(_axes(value) if axes else ())]
    slopes = [_along(trial, number, line) for line in lines]
    trial.memory["probing"] = spent + time.perf_counter() - start
    weights = np.stack([pairing(each) for each in trial.memory["cotangents"]])
    bounds = [_paired(weights, *_bounds(each)) for each in slopes]
    return Probe(
        np.stack([line.ravel() for line in lines]),
        np.stack([least for least, _ in bounds], axis=1),
        np.stack([most for _, most in bounds], axis=1),
        _tolerance(trial),
    )


def _bounds(found: Slope) -> tuple[Array, Array]:
    """Return between what numbers each component of a derivative is."""
    with np.errstate(invalid="ignore"):
        size = np.maximum(np.abs(found.value), np.max(np.abs(found.value), initial=0.0))
        known = np.isfinite(found.value) & (found.error <= 1e-2 * size + 1e-300)
        least = np.where(known, found.value - 10 * found.error, -np.inf)
        most = np.where(known, found.value + 10 * found.error, np.inf)
        sides = np.minimum(found.left, found.right), np.maximum(found.left, found.right)
        slack = 1e-3 * np.maximum(np.abs(found.left), np.abs(found.right))
        at_kink = found.kink & np.isfinite(sides[0]) & np.isfinite(sides[1])
    least = np.where(at_kink, sides[0] - slack, least)
    return least, np.where(at_kink, sides[1] + slack, most)


def _paired(weights: Array, least: Array, most: Array) -> tuple[Array, Array]:
    """Return between what numbers sums of weighted components are, one for each row of weights."""
    with np.errstate(invalid="ignore"):
        ends = np.stack((weights * least, weights * most))
    used = weights != 0
    low, high = np.where(used, ends.min(axis=0), 0.0), np.where(used, ends.max(axis=0), 0.0)
    return low.sum(axis=1), high.sum(axis=1)


def _tolerance(trial: Trial) -> Tolerance:
    rough = max(1e-6, 1e3 * _precision(trial))
    return trial.tolerance(np.float64) if rough < 1e-6 else Tolerance(rough, rough)


def _precision(trial: Trial) -> float:
    """Return how exact the values of the source are."""
    compiled = _results_of(trial)
    return epsilon(coarsest([compiled[1]] if compiled[1] is not None else [], np.float64))


def _results_of(trial: Trial) -> tuple[Callable[[Sequence[Any]], Any], Any]:
    """Return the source's outputs as a function of all arrays, compiled where it can be."""
    compiled = trial.memory["plain_results"]
    if compiled is None:
        return lambda arrays: trial.plain.results(arrays)[0], None
    return lambda arrays: compiled.call(arrays)[0], compiled.jaxpr


def _along(trial: Trial, number: int, line: Array) -> Slope:
    """Differentiate all outputs along a line through a leaf."""
    outputs, _ = _results_of(trial)
    arrays, where = list(trial.arrays), trial.custom.chosen[number]
    start = host(arrays[where])

    def at(step: float) -> Array:
        moved = jnp.asarray((start + step * line).astype(start.dtype))
        arrays[where] = moved.astype(trial.arrays[where].dtype)
        return parts(outputs(arrays))

    return slope(at, _precision(trial))


def _random_lines(trial: Trial, number: int, value: Array) -> list[Array]:
    """Draw directions, each component as long as the leaf's is large, or a hundredth of all."""
    size = np.maximum(np.abs(value), 1e-2 * _size(value))
    return [
        host(direction(generator(trial.settings.seed, 2, number, each), value)) * size
        for each in range(_RANDOM)
    ]


def _size(value: Array) -> float:
    return float(np.max(np.abs(value), where=np.isfinite(value), initial=0.0)) or 1.0


def _axes(value: Array) -> list[Array]:
    """Return lines along each axis, the imaginary ones of a complex leaf too."""
    found = []
    for component in range(value.size):
        for unit in (1, 1j) if value.dtype.kind == "c" else (1,):
            found.append(_axis(value, component, unit))
    return found


def _axis(value: Array, component: int, unit: complex) -> Array:
    line = np.zeros(value.size, value.dtype)
    here = abs(value.ravel()[component])
    line[component] = unit * max(here, 1e-2 * _size(value))
    return line.reshape(value.shape)


def at_kinks(
    trial: Trial, number: int, custom: Array, reference: Array, tolerance: Tolerance
) -> bool:
    """Tell whether a gradient differs from autodiff only where the source has a kink.

    There any number between the derivatives of both sides will do.
    """
    largest = float(np.max(np.abs(reference), initial=0.0))
    allowed = tolerance.allowed(reference, largest)
    off = (np.abs(custom - reference) > allowed).any(axis=0).ravel()
    if reference.dtype.kind == "c" or not 0 < off.sum() <= _KINKS:
        return False
    weights = np.stack([pairing(each) for each in trial.memory["cotangents"]])
    value = host(trial.taken_value(number))
    for component in np.flatnonzero(off):
        line = _axis(value, int(component), 1)
        found = _along(trial, number, line)
        if not found.kink.any():
            return False
        length = line.ravel()[component]
        ours = custom.reshape(len(custom), -1)[:, component] * length
        least, most = _paired(weights, *_bounds(found))
        slack = 1e-9 * (np.abs(ours) + np.abs(most - least))
        if not ((ours >= least - slack) & (ours <= most + slack)).all():
            return False
    return True
