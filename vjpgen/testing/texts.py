"""Numbers and places, as findings show them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def number(value: Any) -> str:
    """Write a number with as many digits as a reader compares."""
    if isinstance(value, complex):
        if value.imag == 0:
            return number(value.real)
        return f"{value.real:.6g}{value.imag:+.6g}j"
    return f"{value:.6g}"


def place(index: Sequence[int]) -> str:
    """Write where in an array: " at [0, 3]"; nothing for a scalar."""
    return f" at [{', '.join(map(str, index))}]" if index else ""


def both(found: Any, expected: Any) -> tuple[str, str]:
    """Write two numbers with as many digits as it takes to tell them apart."""
    for digits in (6, 9, 12, 17):
        texts = _digits(found, digits), _digits(expected, digits)
        if texts[0] != texts[1]:
            break
    return texts


def _digits(value: Any, digits: int) -> str:
    if isinstance(value, complex) and value.imag != 0:
        return f"{value.real:.{digits}g}{value.imag:+.{digits}g}j"
    return f"{complex(value).real:.{digits}g}"
