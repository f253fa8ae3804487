"""Axes of drawings: where a number stands, and which numbers are written beside them."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from vjpgen.figures import real

_SPREAD = 100.0
_DECADES = 8
_LARGE, _SMALL, _LEAST = 1e100, 1e-100, -300
_ROOM = 1.5
_STEPS = (1, 2, 2.5, 5, 10)
_TICKS = 4


@dataclass(frozen=True)
class Scale:
    """An axis.

    Args:
        low: the number at its beginning.
        high: the number at its end.
        threshold: where not 0, numbers beyond it, on both sides of 0, stand by their logarithms,
            those up to it as they are.
    """

    low: float
    high: float
    threshold: float = 0.0

    def place(self, value: float) -> float:
        """Return where a number stands: 0 at the beginning, 1 at the end."""
        low, high = self._along(self.low), self._along(self.high)
        return min(max((self._along(value) - low) / (high - low), 0.0), 1.0)

    def ticks(self) -> list[tuple[float, str]]:
        """Return the round numbers to write at the axis, each as it is written, a handful."""
        if self.threshold:
            return self._decades()
        return [(value, real(value)) for value in self._even()]

    def _along(self, value: float) -> float:
        if not self.threshold:
            return value
        size = abs(value)
        if size <= self.threshold:
            return value / self.threshold
        return math.copysign(1 + math.log10(size) - math.log10(self.threshold), value)

    def _even(self) -> list[float]:
        raw = (self.high - self.low) / _TICKS
        unit = 10.0 ** math.floor(math.log10(raw))
        step = next((n * unit for n in _STEPS if n * unit >= raw * 0.999), raw)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [n * step for n in range(first, last + 1)]

    def _decades(self) -> list[tuple[float, str]]:
        first = _decade(self.threshold)
        sides = (("", _decade(self.high)), ("-", _decade(-self.low)))
        count = sum(max(last - first + 1, 0) for _, last in sides)
        apart = max(math.ceil(count / _TICKS), 1)
        texts = [f"{sign}1e{n}" for sign, last in sides for n in range(last, first - 1, -apart)]
        if self.low <= 0 <= self.high:
            texts.append("0")
        return sorted((float(text), text) for text in texts)


def fitting(values: Iterable[float], least: float = -1.0) -> Scale:
    """Return an axis for numbers, logarithmic where they differ by orders of magnitude.

    Args:
        values: the numbers; those that are not finite do not matter.
        least: where the axis begins if all numbers are 0.
    """
    finite = [each for each in values if math.isfinite(each)]
    sizes = sorted(abs(each) for each in finite if each)
    if not sizes:
        return Scale(least, 1.0)
    low, high = min(finite), max(finite)
    middle = sizes[len(sizes) // 2]
    if _SMALL < sizes[-1] < _LARGE and sizes[-1] <= _SPREAD * middle:
        return _even(low, high)
    return _logarithmic(low, high, max(_decade(sizes[0]), _decade(sizes[-1]) - _DECADES, _LEAST))


def _even(low: float, high: float) -> Scale:
    """Return an axis with room at both ends."""
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        low, high = min(low, 0.0), max(high, 0.0)
    room = (high - low) * 0.05
    return Scale(low - room, high + room)


def _logarithmic(low: float, high: float, least: int) -> Scale:
    """Return an axis whose numbers up to a power of ten stand as they are."""
    threshold, largest = 10.0**least, sys.float_info.max
    low = low * _ROOM if low < 0 else low / _ROOM
    high = high * _ROOM if high > 0 else high / _ROOM
    low, high = (0.0 if abs(end) < threshold else end for end in (low, high))
    return Scale(max(low, -largest), min(high if high > low else threshold, largest), threshold)


def _decade(size: float) -> int:
    """Return the exponent of the power of ten that is no more than a number."""
    return math.floor(math.log10(size) + 1e-9) if size > 0 else -sys.maxsize
