"""Numbers as reports show them."""

from __future__ import annotations

import math
import re

_UNITS = ("B", "kB", "MB", "GB", "TB")
_EXPONENT = re.compile(r"e([+-])0*(\d+)$")


def number(value: float | None) -> str:
    """Return a number with its thousands parted; "-" for one that is not known."""
    return "-" if value is None else f"{round(value):,}"


def size(count: float) -> str:
    """Return a number of bytes with its unit."""
    power = min(int(math.log(count, 1000)), len(_UNITS) - 1) if count >= 1 else 0
    return f"{count / 1000**power:.3g} {_UNITS[power]}"


def real(value: float) -> str:
    """Return a number to three digits: "0.125", "3.1e-9", "nan"."""
    return _EXPONENT.sub(lambda m: f"e{m[1].strip('+')}{m[2]}", f"{value:.3g}")


def share(part: int, whole: int) -> str:
    """Say how a rule's bytes compare with autodiff's."""
    if not whole:
        return "as autodiff does" if not part else "autodiff keeps none"
    return f"{part / whole:.1%} of autodiff's {whole:,}"
