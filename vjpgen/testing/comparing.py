"""Two gradients of one leaf over many output directions, compared component by component."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vjpgen.testing.tolerances import Tolerance

Array = np.ndarray[Any, Any]
_SAMPLES = 400


@dataclass(frozen=True, eq=False)
class Comparison:
    """How far two gradients are apart.

    Args:
        ok: whether every component is within its tolerance.
        error: the worst difference, beside the scale.
        tolerance: what was allowed there, beside the scale.
        where: the place of the worst component: the output direction, then its index.
        found: the worst component.
        expected: what it was compared with.
        wrong: the number of components that are wrong in some direction.
        scale: the largest component of the reference.
    """

    ok: bool
    error: float
    tolerance: float
    where: tuple[int, ...]
    found: complex
    expected: complex
    wrong: int
    scale: float


def host(array: Any) -> Array:
    """Return an array as NumPy has it, in a dtype that NumPy computes in."""
    found = np.asarray(array)
    if found.dtype.kind == "c":
        return found.astype(np.complex128)
    return found.astype(np.float64)


def compare(custom: Array, reference: Array, tolerance: Tolerance) -> Comparison:
    """Compare two stacks of gradients, one slice an output direction.

    Components that are neither finite in one nor in the other, in the same way, are equal.
    """
    if custom.size == 0:
        return Comparison(True, 0.0, tolerance.floor, (), 0.0, 0.0, 0, 0.0)
    with np.errstate(invalid="ignore", over="ignore"):
        finite = np.isfinite(reference)
        largest = float(np.max(np.abs(reference), where=finite, initial=0.0))
        allowed = tolerance.allowed(np.where(finite, reference, 0), largest)
        difference = np.abs(custom - reference)
    same = (custom == reference) | (np.isnan(custom) & np.isnan(reference))
    difference = np.where(same, 0.0, np.where(np.isnan(difference), np.inf, difference))
    bad = difference > allowed
    with np.errstate(divide="ignore", invalid="ignore"):
        excess = np.where(difference == 0, 0.0, difference / allowed)
    worst = np.where(bad, difference, -1.0) if bad.any() else excess
    where = tuple(int(i) for i in np.unravel_index(np.argmax(worst), worst.shape))
    scale = largest or float(np.max(np.abs(custom), where=np.isfinite(custom), initial=0.0)) or 1.0
    return Comparison(
        not bad.any(),
        float(difference[where] / scale),
        float(allowed[where] / scale),
        where,
        custom[where].item(),
        reference[where].item(),
        int(bad.any(axis=0).sum()),
        largest,
    )


def samples(custom: Array, reference: Array, seed: int) -> tuple[tuple[float, ...], ...]:
    """Return the same components of two stacks, at most 400, the most different among them."""
    first, second = _parts(custom), _parts(reference)
    if first.size > _SAMPLES:
        with np.errstate(invalid="ignore"):
            difference = np.nan_to_num(np.abs(first - second), nan=np.inf)
        worst = np.argsort(-difference, kind="stable")[: _SAMPLES // 4]
        others = np.setdiff1d(np.arange(first.size), worst)
        drawn = np.random.default_rng(seed).choice(others, _SAMPLES - worst.size, replace=False)
        places = np.sort(np.concatenate((worst, drawn)))
        first, second = first[places], second[places]
    return tuple(map(float, first)), tuple(map(float, second))


def _parts(stack: Array) -> Array:
    """Return real and imaginary parts in one row."""
    if stack.dtype.kind == "c":
        return np.concatenate((stack.real.ravel(), stack.imag.ravel()))
    return stack.ravel()


def stacked(gradients: Sequence[Sequence[Any]]) -> list[Array]:
    """Turn gradients by direction into one stack for each leaf."""
    return [np.stack([host(each) for each in leaf]) for leaf in zip(*gradients, strict=True)]
