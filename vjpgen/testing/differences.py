"""Finite differences: derivatives of a function that know how far they can be trusted.

Central differences over several steps are extrapolated (C. Ridders, "Accurate computation of
F'(x) and F'(x)F''(x)", 1982): two steps together are the five-point rule, and so on. The one that
agrees best with its neighbours is taken; how well it agrees is its error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from vjpgen.testing.comparing import Array

# Each step is an eighth of the one before; all are exact in binary.
_STEPS = tuple(2.0**-power for power in (4, 7, 10, 13, 16))
_SHRINK = 8.0
_KINK = 1e-3
_SETTLED = 0.25
_SAFE = 64.0
_NOISY = 4.0
# Steps at which rounding is measured: so many, each some roundings long.
_JITTERS, _ROUNDINGS = 8, 16.0


@dataclass(frozen=True, eq=False)
class Slope:
    """The derivative of a vector along a line, component by component.

    Args:
        value: the derivative; nan where there is none.
        error: how far off it may be.
        left: the difference to the left, with the smallest step.
        right: the difference to the right.
        kink: where the two differ for good: there is no derivative there.
        size: how large the vector itself is.
    """

    value: Array
    error: Array
    left: Array
    right: Array
    kink: Array
    size: Array


def slope(function: Callable[[float], Array], epsilon: float, jitter: Array | float = 0.0) -> Slope:
    """Differentiate a function of a number at zero.

    Args:
        function: gives a vector, real and imaginary parts apart; the line is scaled so that it
            changes over a length of about 1.
        epsilon: how exact the function's values are.
        jitter: by how much they were found to be off besides.
    """
    middle = function(0.0)
    noise = np.maximum(_SAFE * epsilon * np.abs(middle), _NOISY * jitter)
    best = np.full(middle.shape, np.nan)
    error = np.full(middle.shape, np.inf)
    sides: list[tuple[Array, Array]] = []
    above: list[Array] = []
    with np.errstate(all="ignore"):
        for step in _STEPS:
            after, before = function(step), function(-step)
            sides.append(((middle - before) / step, (after - middle) / step))
            row = [(after - before) / (2 * step)]
            for level, coarse in enumerate(above, 1):
                power = _SHRINK ** (2 * level)
                finer = (power * row[-1] - coarse) / (power - 1)
                far = np.maximum(np.abs(finer - row[-1]), np.abs(finer - coarse))
                far = far + noise / step
                better = far < error
                best, error = np.where(better, finer, best), np.where(better, far, error)
                row.append(finer)
            above = row
        # Steps that agree with each other may all be too long, beyond a pole or where the function
        # no longer changes: the shortest decides, and how much it still differs from the next.
        shortest, next_one = ((a + b) / 2 for a, b in (sides[-1], sides[-2]))
        far = np.maximum(np.abs(best - shortest), np.abs(next_one - shortest))
        error = np.maximum(error, far - noise / _STEPS[-1])
        left, right = sides[-1]
        jump, earlier = (np.abs(b - a) for a, b in (sides[-1], sides[-2]))
        size = np.maximum(np.abs(left), np.abs(right))
        kink = (jump > _KINK * size + 2 * noise / _STEPS[-1]) & (jump > 0.5 * earlier)
        # At a kink either side has settled; where a function bends more sharply than the steps
        # are short, it has not, and its derivative need not be between the two.
        moved = np.maximum(np.abs(left - sides[-2][0]), np.abs(right - sides[-2][1]))
        kink &= moved <= _SETTLED * jump + 2 * noise / _STEPS[-1]
    return Slope(best, error, left, right, kink, np.abs(middle))


def jitter(function: Callable[[float], Array], epsilon: float) -> Array:
    """Measure how far rounding moves a function: the value may be what is left of larger ones.

    Over steps this short it would be straight, to the right of a kink as well.
    """
    with np.errstate(all="ignore"):
        values = [function(count * _ROUNDINGS * epsilon) for count in range(1, _JITTERS + 1)]
        bent = np.abs(np.diff(np.stack(values), 2, axis=0)).max(axis=0)
    return np.where(np.isfinite(bent), bent, 0.0)


def parts(arrays: Any) -> Array:
    """Return arrays as one real vector, imaginary parts after real ones of each."""
    found: list[Array] = []
    for each in arrays:
        flat: Any = np.asarray(each).ravel()
        if flat.dtype.kind == "c":
            found += [flat.real.astype(np.float64), flat.imag.astype(np.float64)]
        else:
            found.append(flat.astype(np.float64))
    return np.concatenate(found) if found else np.zeros(0)


def pairing(arrays: Any) -> Array:
    """Return cotangents as the weights of `parts`: JAX pairs `a` with `b` as Re(sum(a * b))."""
    found: list[Array] = []
    for each in arrays:
        flat: Any = np.asarray(each).ravel()
        if flat.dtype.kind == "c":
            found += [flat.real.astype(np.float64), -flat.imag.astype(np.float64)]
        else:
            found.append(flat.astype(np.float64))
    return np.concatenate(found) if found else np.zeros(0)
