"""Seeded random directions of short decimals, and output cotangents.

All numbers are multiples of 1/8 that are not zero: exact in every dtype, and readable in a report.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

# Jacobians with no more output components than this are compared as a whole,
MOST_AXES = 64
# unless the gradients would hold more numbers than this.
MOST_NUMBERS = 4_000_000


def generator(seed: int, *stream: int) -> np.random.Generator:
    """Return a generator of numbers: one stream each for what is drawn independently."""
    return np.random.default_rng([seed, *stream])


def eighths(draw: np.random.Generator, shape: Sequence[int]) -> np.ndarray[Any, Any]:
    """Draw multiples of 1/8 between -2 and 2, none of them zero."""
    size = math.prod(shape)
    drawn = draw.integers(1, 17, size) * draw.choice((-1, 1), size)
    return drawn.reshape(tuple(shape)) / 8


def direction(draw: np.random.Generator, like: Any) -> Any:
    """Draw a direction for an array of a floating point or complex dtype."""
    numbers = eighths(draw, like.shape)
    if jnp.issubdtype(like.dtype, np.complexfloating):
        numbers = numbers + 1j * eighths(draw, like.shape)
    return jnp.asarray(numbers.astype(like.dtype))


def cotangents(
    outputs: Sequence[Any], *, seed: int, count: int, inputs: int
) -> list[tuple[Any, ...]]:
    """Return the output directions along which gradients are compared.

    Args:
        outputs: the outputs that have tangents; shapes and dtypes are enough.
        seed: what they come from.
        count: how many are drawn at random; for small outputs, each axis is another one, the
            imaginary one of complex outputs, too.
        inputs: the number of components that a gradient has.
    """
    drawn = [
        tuple(
            direction(generator(seed, 1, number, place), out) for place, out in enumerate(outputs)
        )
        for number in range(count)
    ]
    total = sum(_axes_of(out) for out in outputs)
    if total > MOST_AXES or total * inputs > MOST_NUMBERS:
        return drawn
    return drawn + axes(outputs)


def axes(arrays: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Return the directions along each axis of some arrays together."""
    zeros = [jnp.asarray(np.zeros(each.shape, each.dtype)) for each in arrays]
    found: list[tuple[Any, ...]] = []
    for place, each in enumerate(arrays):
        units = (1, 1j) if jnp.issubdtype(each.dtype, np.complexfloating) else (1,)
        for component in range(math.prod(each.shape)):
            for unit in units:
                flat = np.zeros(math.prod(each.shape), np.result_type(np.float32, type(unit)))
                flat[component] = unit
                axis = jnp.asarray(flat.reshape(each.shape).astype(each.dtype))
                found.append((*zeros[:place], axis, *zeros[place + 1 :]))
    return found


def _axes_of(array: Any) -> int:
    parts = 2 if jnp.issubdtype(array.dtype, np.complexfloating) else 1
    return parts * math.prod(array.shape)


def scaled(arrays: Sequence[Any], factor: float) -> list[Any]:
    """Multiply arrays by a number that is exact in all their dtypes."""
    return [jnp.asarray((np.asarray(each) * factor).astype(each.dtype)) for each in arrays]
