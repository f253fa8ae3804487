"""Arguments a little off the example's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from vjpgen.testing.comparing import Array, host
from vjpgen.testing.directions import eighths, generator
from vjpgen.testing.trial import Trial


def nearby(trial: Trial, number: int, *, alike: bool = False) -> list[Any]:
    """Return the differentiated arrays a little off the example's, signs and zeros as they are.

    An array of zeros alone, as a bias is at first, is moved off zero.

    Args:
        trial: the rule.
        number: which of many.
        alike: whether to keep what a function may rely on: whole numbers, as those of masks and
            labels, unless they are all the same, and symmetry.
    """
    moved = []
    for position, value in enumerate(trial.custom.taken(trial.arrays)):
        drawn = eighths(generator(trial.settings.seed, 3, number, position), value.shape) / 16
        start = host(value)
        if alike:
            drawn = _alike(start, drawn)
        near = start * (1 + drawn) if start.any() else drawn
        moved.append(jnp.asarray(near.astype(value.dtype)))
    return moved


def is_inside(trial: Trial, values: Sequence[Any]) -> bool:
    """Tell whether the source's outputs are finite for other differentiated arrays."""
    arrays = list(trial.custom.put(trial.arrays, values))
    compiled = trial.memory["plain_results"]
    results = trial.plain.results(arrays) if compiled is None else compiled.call(arrays)
    return all(np.isfinite(host(each)).all() for each in results[0])


def _alike(start: Array, drawn: Array) -> Array:
    if (start == np.round(start)).all() and np.unique(start).size > 1:
        return np.zeros_like(drawn)
    if start.ndim >= 2 and start.shape[-1] == start.shape[-2] > 1:
        turned = np.swapaxes(start, -1, -2)
        if np.array_equal(start, turned) or np.array_equal(start, turned.conj()):
            return (drawn + np.swapaxes(drawn, -1, -2)) / 2
    return drawn
