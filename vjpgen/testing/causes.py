"""What usually causes a wrong gradient: guesses, each of which the numbers bear out.

A guess maps the reference to what the rule would have returned; the first that it fits is told.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vjpgen.testing.comparing import Array, compare
from vjpgen.testing.tolerances import Tolerance

_MOST_PERMUTED = 8
_MOST_GUESSED = 200_000


@dataclass(frozen=True, eq=False)
class Case:
    """A leaf's gradient that is wrong.

    Args:
        custom: the rule's gradients, one slice an output direction.
        reference: what they were to be.
        tolerance: how far they may be apart.
        value: the leaf itself.
        others: the references of the other leaves, by path.
        sizes: the lengths of axes of inputs and outputs, with what has them.
    """

    custom: Array
    reference: Array
    tolerance: Tolerance
    value: Array
    others: Mapping[str, Array]
    sizes: Mapping[int, str]

    def fits(self, guess: Array) -> bool:
        """Tell whether a guess is what the rule returned."""
        if guess.shape != self.custom.shape:
            return False
        loose = Tolerance(
            10 * self.tolerance.relative, 10 * self.tolerance.floor, 10 * self.tolerance.absolute
        )
        return compare(self.custom, guess, loose).ok


def cause_of(case: Case) -> str:
    """Say what usually causes such a difference; "" where nothing fits."""
    custom, reference = case.custom, case.reference
    if not np.isfinite(custom).all():
        kinds = "nan" if np.isnan(custom).any() else "inf"
        return f"{kinds}: a division by zero, an overflow, or 0 * inf under `where`"
    if not np.isfinite(reference).all() or custom.size == 0:
        return ""
    if custom.size > _MOST_GUESSED:
        few = max(1, _MOST_GUESSED // max(custom[0].size, 1))
        case = Case(
            custom[:few],
            reference[:few],
            case.tolerance,
            case.value,
            {path: each[:few] for path, each in case.others.items()},
            case.sizes,
        )
    guesses: Sequence[Callable[[Case], str]] = (
        _zero,
        _factor,
        _conjugate,
        _other_leaf,
        _transpose,
        _reduction,
        _permutation,
        _factor_by_direction,
        _factor_by_component,
        _added,
        _constant,
        _partly_zero,
        _some_components,
    )
    with np.errstate(all="ignore"):
        return next(filter(None, (guess(case) for guess in guesses)), "")


def _zero(case: Case) -> str:
    if not case.custom.any():
        return "zero where it is not: None or zeros in the leaf's place, or `stop_gradient`"
    return ""


def ratio(custom: Array, reference: Array) -> complex:
    """Return the factor that brings the reference closest to the custom gradient."""
    norm = np.vdot(reference, reference)
    found = np.vdot(reference, custom) / norm if norm else 0.0
    return complex(found) if np.iscomplexobj(found) else float(found)


def _factor(case: Case) -> str:
    factor = ratio(case.custom, case.reference)
    if not factor or not case.fits(factor * case.reference):
        return ""
    return _factor_text(factor, case.sizes)


def _factor_text(factor: complex, sizes: Mapping[int, str]) -> str:
    if isinstance(factor, complex) and abs(factor.imag) > 1e-6 * abs(factor):
        return f"a factor of {factor:.6g} too much"
    factor = factor.real
    if math.isclose(factor, -1, rel_tol=1e-5):
        return "wrong sign"
    for size, owner in sizes.items():
        if size > 1 and math.isclose(factor, size, rel_tol=1e-5):
            return f"{size} times too large, the size of {owner}: a sum where a mean is due"
        if size > 1 and math.isclose(factor * size, 1, rel_tol=1e-5):
            return f"{size} times too small, the size of {owner}: a mean where a sum is due"
    sign = "wrong sign and " if factor < 0 else ""
    size = abs(factor)
    if size > 1:
        return f"{sign}a factor of {_number(size)} too much: one that is missing or applied twice"
    return f"{sign}a factor of {_number(1 / size)} is missing"


def _number(value: float) -> str:
    return next((text for digits in (6, 9) if (text := f"{value:.{digits}g}") != "1"), "1")


def _conjugate(case: Case) -> str:
    if not np.iscomplexobj(case.reference) and not np.iscomplexobj(case.custom):
        return ""
    if case.fits(case.reference.conj()):
        return "the complex conjugate of what it is to be: `conj` missing, or one too many"
    factor = ratio(case.custom, case.reference.conj())
    if factor and case.fits(factor * case.reference.conj()):
        return f"the complex conjugate times {factor:.6g}: `conj` missing, and a factor"
    return ""


def _other_leaf(case: Case) -> str:
    for path, other in case.others.items():
        if other.any() and case.fits(other):
            return f"it is the gradient of `{path}`: tangents are swapped"
    return ""


def _transpose(case: Case) -> str:
    ndim = case.reference.ndim - 1
    if 2 <= ndim <= 4:
        for order in itertools.permutations(range(1, ndim + 1)):
            if order == tuple(range(1, ndim + 1)):
                continue
            guess = case.reference.transpose(0, *order)
            if case.fits(guess):
                return "it is the transpose of what it is to be: a transpose is missing"
            factor = ratio(case.custom, guess) if guess.shape == case.custom.shape else 0
            if factor and case.fits(factor * guess):
                return f"it is the transpose times {factor:.6g}: a transpose is missing"
    return ""


def _reduction(case: Case) -> str:
    for axis in range(1, case.reference.ndim):
        size = case.reference.shape[axis]
        if size < 2:
            continue
        total = case.reference.sum(axis=axis, keepdims=True)
        for guess, words in ((total, "summed"), (total / size, "averaged")):
            if case.fits(np.broadcast_to(guess, case.custom.shape)):
                return f"it is {words} over axis {axis - 1}: a wrong reduction"
        if size > 1:
            shares = np.isclose(ratio(case.custom, case.reference) * size, 1, rtol=1e-5)
            if shares and case.fits(case.reference / size):
                return f"it is divided by {size}, the length of axis {axis - 1}"
    return ""


def _permutation(case: Case) -> str:
    reference = case.reference
    for axis in range(1, reference.ndim):
        size = reference.shape[axis]
        if size < 2:
            continue
        if case.fits(np.flip(reference, axis)):
            return f"it is reversed along axis {axis - 1}"
        for shift in _shifts(size):
            if case.fits(np.roll(reference, shift, axis)):
                return f"it is shifted by {shift} along axis {axis - 1}: an index is off"
    flat = reference.reshape(reference.shape[0], -1)
    mine = case.custom.reshape(flat.shape)
    if 1 < flat.shape[1] <= 4096:
        order, own = _order(flat), _order(mine)
        guess = np.empty_like(flat)
        guess[:, own] = flat[:, order]
        if case.fits(guess.reshape(reference.shape)):
            return "its components are in another order: a wrong permutation, gather or reshape"
    return ""


def _shifts(size: int) -> Iterator[int]:
    yield from (shift for shift in (1, -1, 2, -2) if abs(shift) < size)


def _order(stack: Array) -> Any:
    """Return an order of the components that does not depend on how they are permuted."""
    rounded = np.round(stack / (np.abs(stack).max() or 1.0), 9)
    parts = (rounded.real, rounded.imag) if np.iscomplexobj(rounded) else (rounded,)
    return np.lexsort(np.concatenate(parts)[::-1])


def _factor_by_direction(case: Case) -> str:
    if case.custom.shape[0] < 2:
        return ""
    flat = case.reference.reshape(case.reference.shape[0], -1)
    own = case.custom.reshape(flat.shape)
    norms = (np.abs(flat) ** 2).sum(axis=1)
    factors = np.divide(
        (flat.conj() * own).sum(axis=1), norms, out=np.zeros_like(own[:, 0]), where=norms > 0
    )
    guess = (factors[:, None] * flat).reshape(case.reference.shape)
    if own.shape[1] > 1 and case.fits(guess):
        return (
            "its direction is right, its length depends on the output tangent: clipped, "
            "normalized, or divided by a norm"
        )
    return ""


def _factor_by_component(case: Case) -> str:
    if case.custom.shape[0] < 2:
        return ""
    norms = (np.abs(case.reference) ** 2).sum(axis=0)
    factors = np.divide(
        (case.reference.conj() * case.custom).sum(axis=0),
        norms,
        out=np.zeros_like(case.custom[0]),
        where=norms > 0,
    )
    if not case.fits(factors * case.reference):
        return ""
    off: Any = ~np.isclose(factors, 1, rtol=1e-6) & (norms > 0)
    if case.value.shape == factors.shape:
        for words, guess in (("the leaf's value", case.value), ("1 / the value", 1 / case.value)):
            if factors.size > 1 and np.allclose(factors[norms > 0], guess[norms > 0], rtol=1e-5):
                return f"each component is multiplied by {words}: an inner derivative is missing"
    if not factors[off].any():
        return _masked(off, norms)
    if off.sum() < (norms > 0).sum():
        return f"{_places(off)}: multiplied by {_listed(factors[off])}"
    if factors.size == 1:
        return ""
    return (
        "each component has a factor of its own: a missing or wrong inner derivative, as of "
        "a nonlinearity or a mask"
    )


def _masked(off: Any, norms: Any) -> str:
    return (
        f"{_places(off)}: zero where it is not; a mask, a dropped residual, or a slice that is "
        "left out"
    )


def _added(case: Case) -> str:
    """Something that does not depend on the output tangent is added, as a multiple of the leaf."""
    extra = case.custom - case.reference
    if case.custom.shape[0] < 2 or not case.fits(case.reference + extra.mean(axis=0)):
        return ""
    mean = extra.mean(axis=0)
    if case.value.shape == mean.shape and case.value.any():
        factor = ratio(mean, case.value)
        if factor and np.allclose(mean, factor * case.value, rtol=1e-5):
            return f"{factor:.6g} times the leaf itself is added, as weight decay does"
    return "something is added that does not depend on the output tangent"


def _constant(case: Case) -> str:
    if case.custom.shape[0] > 1 and case.fits(np.broadcast_to(case.custom[:1], case.custom.shape)):
        return "it does not depend on the output tangent"
    return ""


def _partly_zero(case: Case) -> str:
    off = ((case.custom == 0) & (case.reference != 0)).any(axis=0)
    if off.any() and case.fits(np.where(off, 0, case.reference)):
        return _masked(off, off)
    return ""


def _some_components(case: Case) -> str:
    loose = case.tolerance
    largest = float(np.abs(case.reference).max())
    bad = np.abs(case.custom - case.reference) > loose.allowed(case.reference, largest)
    off = bad.any(axis=0)
    if off.size > 1 and 0 < off.sum() < off.size:
        return f"{_places(off)} only; the others are right"
    return ""


def _places(off: Any) -> str:
    """Name the components that are off."""
    count, size = int(off.sum()), off.size
    for axis in range(off.ndim):
        others = tuple(i for i in range(off.ndim) if i != axis)
        rows = off.all(axis=others) if others else off
        if others and rows.any() and off.sum() == rows.sum() * (size // off.shape[axis]):
            return f"index {_listed(np.flatnonzero(rows))} of axis {axis} ({count} of {size})"
    places = [str([int(i) for i in where]) for where in np.argwhere(off)[:4]]
    more = ", ..." if count > len(places) else ""
    return f"{count} of {size} components ({', '.join(places)}{more})"


def _listed(values: Array) -> str:
    texts = [f"{value:.6g}" for value in np.unique(np.round(values, 12))[:4]]
    return ", ".join(texts) + (", ..." if len(np.unique(np.round(values, 12))) > 4 else "")
