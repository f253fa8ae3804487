"""Derivatives of the source along lines through one leaf, by finite differences."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from vjpgen.testing.comparing import Array, Comparison, compare, host
from vjpgen.testing.differences import Slope, jitter, pairing, parts, slope
from vjpgen.testing.directions import direction, generator
from vjpgen.testing.tolerances import Tolerance, coarsest, epsilon
from vjpgen.testing.trial import Trial

# Beside autodiff, leaves with no more components than this are probed along every axis.
_AXES = 16
# Where there is no autodiff to compare with, along so many, drawn at random if there are more.
_MOST_AXES = 256
_RANDOM = 2
_KINKS = 256
# Seconds after which a trial probes along no more axes, and after which, where it has autodiff to
# compare with, along no more random lines; so many axes of a leaf are probed whatever it takes.
_SLOW, _ENOUGH = 1.5, 6.0
_FEW = 8
_COARSE = 1e-5
_SMALL = 1e-8
# Functions with fewer digits than this round inside by more than their outputs tell.
_ROUGH = 1e-10


@dataclass(frozen=True, eq=False)
class Line:
    """A direction in a leaf.

    Args:
        places: the components that it moves, as numbers into the flat leaf.
        steps: by how much it moves each.
    """

    places: Array
    steps: Array

    def whole(self, like: Array) -> Array:
        """Return it as an array like the leaf."""
        found = np.zeros(like.size, like.dtype)
        found[self.places] = self.steps
        return found.reshape(like.shape)


@dataclass(frozen=True, eq=False)
class Probe:
    """The derivative of the source along some lines through a leaf, paired with cotangents.

    Args:
        shape: the shape of the leaf.
        lines: the directions.
        least: the least that each derivative may be, one row an output direction, one column a
            line; at a kink, the lesser of the derivatives of both sides; -inf where unknown.
        most: the most that it may be; inf where unknown.
        tolerance: by how much a gradient may differ besides, absolutely in each component.
    """

    shape: tuple[int, ...]
    lines: Sequence[Line]
    least: Array
    most: Array
    tolerance: Tolerance

    def compare(self, gradients: Array, asked: Array | None = None) -> Comparison:
        """Compare a stack of gradients with what the derivatives may be.

        What is not known is left out. Along an axis, what is found is that component.

        Args:
            gradients: the gradients, one slice an output direction.
            asked: the components of each that are to be compared; by default all.
        """
        flat = gradients.reshape(len(gradients), -1)
        with np.errstate(invalid="ignore"):
            along = [np.real(flat[:, line.places] @ line.steps) for line in self.lines]
        known = self._known(asked)
        along = np.where(known, np.stack(along, axis=1), 0.0)
        least, most = (np.where(known, each, 0.0) for each in (self.least, self.most))
        nearest = np.where(np.isfinite(along), np.clip(along, least, most), (least + most) / 2)
        relative = dataclasses.replace(self.tolerance, absolute=0.0)
        allowed = relative.allowed(nearest, float(np.max(np.abs(nearest), initial=0.0)))
        allowed += self.tolerance.absolute * np.array(
            [np.abs(each.steps).sum() for each in self.lines]
        )
        with np.errstate(invalid="ignore"):
            wrong = ~(np.abs(along - nearest) <= allowed)
        on_axes = np.array([len(line.places) == 1 for line in self.lines])
        if wrong[:, on_axes].any():
            wrong[:, ~on_axes] = False  # they say less: not where
        # shown as zero where that may be it, not as how far off zero it may be
        width = most - least
        about_zero = (np.abs(nearest) <= width) & (width < 1e-4 * np.abs(along))
        nearest = np.where(about_zero, 0.0, nearest)
        # what is within its allowance is as good as equal
        found = compare(np.where(wrong, along, nearest), nearest, Tolerance(0.0, 0.0))
        allowed = allowed + width / 2
        return self._placed(found, float(allowed[found.where]))

    def covered(self, asked: Array | None = None) -> Array:
        """Tell which components of a stack of gradients `compare` compares."""
        known = self._known(asked)
        found = np.zeros((len(known), math.prod(self.shape)), int)
        lengths = [len(line.places) for line in self.lines]
        is_complex = any(np.iscomplexobj(line.steps) for line in self.lines)
        for column, (line, length) in enumerate(zip(self.lines, lengths, strict=True)):
            # both parts of a complex component are needed, each an axis of its own
            share = 1 if is_complex and length == 1 else 2
            found[:, line.places] += share * known[:, column, None]
        return (found >= 2).reshape(-1, *self.shape)

    def _known(self, asked: Array | None) -> Array:
        known = np.isfinite(self.least) & np.isfinite(self.most)
        if asked is None:
            return known
        flat = asked.reshape(len(asked), -1)
        return known & np.stack([flat[:, line.places].all(axis=1) for line in self.lines], axis=1)

    def _placed(self, found: Comparison, allowed: float) -> Comparison:
        """Say which component a comparison shows, where it is along an axis, and what it may."""
        row, column = found.where
        found = dataclasses.replace(found, tolerance=allowed / (found.scale or 1.0))
        line = self.lines[column]
        if len(line.places) != 1 or np.iscomplexobj(line.steps):
            return dataclasses.replace(found, where=())
        place = np.unravel_index(int(line.places[0]), self.shape)
        length = line.steps[0].item()
        return dataclasses.replace(
            found,
            where=(row, *map(int, place)),
            found=found.found / length,
            expected=found.expected / length,
        )


def probe(trial: Trial, number: int, *, rest: bool = False, always: bool = False) -> Probe | None:
    """Probe a leaf, once; None where finite differences say nothing.

    Args:
        trial: the trial.
        number: the leaf.
        rest: whether to probe where there is no autodiff to compare with, or where it is not
            finite, in place of where it is.
        always: whether to do so however long the trial has been probing.
    """
    known: dict[tuple[int, bool], Probe | None] = trial.memory.setdefault("probes", {})
    late = not (rest or always) and trial.memory.get("probing", 0.0) > _ENOUGH
    if (number, rest) not in known and not late:
        known[number, rest] = _probe(trial, number, rest)
    return known.get((number, rest))


def _probe(trial: Trial, number: int, rest: bool) -> Probe | None:
    value = host(trial.taken_value(number))
    places = _places(trial, number, value, rest)
    if places.size == 0 or _precision(trial) > _COARSE:
        return None
    lines = _random_lines(trial, number, value, places)
    slopes = [_along(trial, number, line) for line in lines]
    for line in _axes(trial, number, value, places, rest):
        lines.append(line)
        slopes.append(_along(trial, number, line))
    weights = np.stack([pairing(each) for each in trial.memory["cotangents"]])
    bounds = [_paired(weights, *_bounds(each)) for each in slopes]
    return Probe(
        value.shape,
        lines,
        np.stack([least for least, _ in bounds], axis=1),
        np.stack([most for _, most in bounds], axis=1),
        _tolerance(trial),
    )


def _places(trial: Trial, number: int, value: Array, rest: bool) -> Array:
    """Return the components that can be moved and of which autodiff is finite, or those others."""
    reference = trial.memory["reference"]
    alone = np.ones(value.size, bool)
    if reference is not None:
        alone = ~np.isfinite(reference[number]).all(axis=0).ravel()
    return np.flatnonzero(np.isfinite(value).ravel() & (alone == rest))


def _bounds(found: Slope) -> tuple[Array, Array]:
    """Return between what numbers each component of a derivative is."""
    with np.errstate(invalid="ignore"):
        size = np.maximum(np.abs(found.value), np.max(np.abs(found.value), initial=0.0))
        # beside a slope of zero, an error is small that is small beside the vector
        small = np.maximum(1e-2 * size, _SMALL * np.max(found.size, initial=0.0))
        known = np.isfinite(found.value) & (found.error <= small + 1e-300)
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
    rough = max(1e-6, 1e3 * _precision(trial), trial.settings.rtol or 0.0)
    return Tolerance(rough, rough, trial.settings.atol or 0.0)


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


def _along(trial: Trial, number: int, line: Line) -> Slope:
    """Differentiate all outputs along a line through a leaf."""
    began = time.perf_counter()
    function, precision = _moved(trial, number, line), _precision(trial)
    rounding: dict[int, Array] = trial.memory.setdefault("rounding", {})
    if number not in rounding:
        rough = precision > _ROUGH
        rounding[number] = jitter(function, precision) if rough else np.zeros(())
    found = slope(function, precision, rounding[number])
    spent = trial.memory.get("probing", 0.0)
    trial.memory["probing"] = spent + time.perf_counter() - began
    return found


def _moved(trial: Trial, number: int, line: Line) -> Callable[[float], Array]:
    """Return all outputs as a function of how far a leaf is moved along a line."""
    outputs, _ = _results_of(trial)
    arrays, where = list(trial.arrays), trial.custom.chosen[number]
    start = host(arrays[where])
    whole = line.whole(start)

    def at(step: float) -> Array:
        moved = jnp.asarray((start + step * whole).astype(start.dtype))
        arrays[where] = moved.astype(trial.arrays[where].dtype)
        return parts(outputs(arrays))

    return at


def _random_lines(trial: Trial, number: int, value: Array, places: Array) -> list[Line]:
    """Draw directions, each component as long as the leaf's is large, or a hundredth of all."""
    size = _sizes(value)
    drawn = [
        host(direction(generator(trial.settings.seed, 2, number, each), value)) * size
        for each in range(_RANDOM)
    ]
    return [Line(places, each.ravel()[places]) for each in drawn]


def _sizes(value: Array) -> Array:
    """Return how far each component is moved."""
    size = np.where(np.isfinite(value), np.abs(value), 0.0)
    return np.maximum(size, 1e-2 * (float(np.max(size, initial=0.0)) or 1.0))


def _axes(trial: Trial, number: int, value: Array, places: Array, rest: bool) -> Iterator[Line]:
    """Yield lines along axes, the imaginary ones of a complex leaf too, while there is time."""
    if not rest and places.size > _AXES:
        return
    until = _ENOUGH if rest else _SLOW
    must = _FEW if rest and trial.memory["reference"] is not None else 0
    for count, place in enumerate(_drawn(trial, number, places, _MOST_AXES)):
        if count >= must and trial.memory["probing"] > until:
            return
        for unit in (1, 1j) if value.dtype.kind == "c" else (1,):
            yield _axis(value, place, unit)


def _drawn(trial: Trial, number: int, places: Array, most: int) -> list[int]:
    """Return some components, if there are too many, in an order drawn at random."""
    order = generator(trial.settings.seed, 5, number).permutation(places)
    return [int(place) for place in order[:most]]


def _axis(value: Array, place: int, unit: complex) -> Line:
    length = unit * _sizes(value).ravel()[place]
    return Line(np.array([place]), np.array([length]).astype(value.dtype))


def at_kinks(
    trial: Trial, number: int, custom: Array, reference: Array, tolerance: Tolerance
) -> tuple[int, int]:
    """Tell whether a gradient differs from autodiff only where the source has a kink.

    There any number between the derivatives of both sides will do. Of many such components some
    are looked at.

    Returns:
        how many were looked at, none if it differs elsewhere, and how many differ.
    """
    largest = float(np.max(np.abs(reference), initial=0.0))
    off = np.abs(custom - reference) > tolerance.allowed(reference, largest)
    off = off.reshape(len(off), -1)
    places = np.flatnonzero(off.any(axis=0))
    value = host(trial.taken_value(number))
    if reference.dtype.kind == "c" or not np.isfinite(value.ravel()[places]).all():
        return 0, places.size
    weights = np.stack([pairing(each) for each in trial.memory["cotangents"]])
    drawn = _drawn(trial, number, places, _KINKS)
    began = trial.memory.get("probing", 0.0)
    for count, place in enumerate(drawn):
        if count >= _KINKS // 4 and trial.memory["probing"] - began > _SLOW:
            return count, places.size
        line = _axis(value, place, 1)
        found = _along(trial, number, line)
        if not found.kink.any():
            return 0, places.size
        ours = custom.reshape(len(custom), -1)[off[:, place], place] * line.steps[0]
        least, most = (each[off[:, place]] for each in _paired(weights, *_bounds(found)))
        with np.errstate(invalid="ignore"):
            slack = 1e-9 * (np.abs(ours) + np.abs(most - least))
            between = (ours >= least - slack) & (ours <= most + slack)
        if not (between & np.isfinite(least) & np.isfinite(most)).all():
            return 0, places.size
    return len(drawn), places.size
