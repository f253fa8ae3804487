"""Whether the gradients are right in the example's own precision, too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vjpgen.testing.causes import Case, cause_of
from vjpgen.testing.comparing import Array, Comparison, compare, host
from vjpgen.testing.rough import Rough, is_double, rough
from vjpgen.testing.texts import both, place
from vjpgen.testing.tolerances import Tolerance, coarsest, leading_to, tolerance_of
from vjpgen.testing.trial import NotApplicableError, Trial

_MOST_NOISE = 1 / 32  # of a leaf's largest component


def check_precision(trial: Trial) -> None:
    """In the example's own precision the gradients are right, as far as that precision goes."""
    if trial.arrays is trial.own:
        raise NotApplicableError("all has been verified in the example's own precision")
    if is_double(trial):
        raise NotApplicableError("the example is in double precision")
    found = rough(trial)
    if found.error is not None:
        raise found.error
    assert found.custom is not None
    _check_outputs(trial, found)
    for position in range(len(trial.targets)):
        theirs = None if found.reference is None else found.reference[position]
        _check_leaf(
            trial, position, found.custom[position], theirs, found.jaxprs, found.shaken[position]
        )


def _check_outputs(trial: Trial, found: Rough) -> None:
    """In low precision the forward rule gives what the source does, as far as that is finite."""
    ours, theirs = found.outputs
    known = trial.has_own_reference or trial.has_errors(["forward"])
    if ours is None or theirs is None or known:
        return
    for position, (mine, wanted) in enumerate(zip(ours, theirs, strict=True)):
        dtype = coarsest([leading_to(each, [position]) for each in found.jaxprs], mine.dtype)
        reference = host(wanted)
        full = host(trial.memory["results"][0][position])
        noise = float(np.max(np.abs(reference - full), where=np.isfinite(full), initial=0.0))
        if not np.isfinite(reference).all() or trial.memory["random"]:
            noise = 0.0
        largest = float(np.max(np.abs(full), where=np.isfinite(full), initial=0.0))
        tolerance = tolerance_of(dtype, noise=min(noise, _MOST_NOISE * largest))
        custom = np.where(np.isfinite(reference), host(mine), reference)
        result = compare(custom[None], reference[None], tolerance)
        if result.ok:
            continue
        texts = both(result.found, result.expected)
        trial.tell(
            "precision",
            f"in {mine.dtype} output {position} of the forward rule differs from what the primal "
            f"gives: {texts[0]}{place(result.where[1:])} instead of {texts[1]}",
            found=texts[0],
            expected=texts[1],
            cause="overflow or underflow, cancellation, or a branch on the dtype",
        )


def _check_leaf(
    trial: Trial,
    position: int,
    custom: Array,
    reference: Array | None,
    jaxprs: Sequence[Any],
    shaken: float,
) -> None:
    target, value = trial.targets[position], trial.own[trial.custom.chosen[position]]
    full = trial.memory["custom"][position][: len(custom)]  # which has been compared
    dtype = coarsest(jaxprs, value.dtype)
    if target.claim != "exact" or trial.memory["judged"][position].relation != "exact":
        if (np.isfinite(custom) | ~np.isfinite(full)).all():
            return
        if reference is not None and not np.isfinite(reference).all():
            return
        result = compare(custom, full, Tolerance(np.inf, np.inf))
    else:
        result = _closest(trial, custom, reference, full, dtype, shaken)
        if result.ok:
            return
    texts = both(result.found, result.expected)
    name = np.dtype(dtype).name
    trial.tell(
        "precision",
        f"in {value.dtype} the gradient of `{target.input.path}` is wrong: {texts[0]}"
        f"{place(result.where[1:])} instead of {texts[1]}; off by {result.error:.2g} of the "
        f"largest component, {result.tolerance:.1g} allowed for {name}",
        target=target,
        found=texts[0],
        expected=texts[1],
        cause=_cause(trial, position, custom, full),
    )


def _closest(
    trial: Trial, custom: Array, reference: Array | None, full: Array, dtype: Any, shaken: float
) -> Comparison:
    """Compare with autodiff in the same precision, and with the rule in double precision.

    Either will do, since autodiff may be far off; but where numbers are drawn, others are drawn in
    double precision.
    """
    against = [full] if reference is None else [reference, full]
    noise = 0.0
    if reference is not None and trial.memory["random"]:
        against = [reference]
    elif reference is not None:
        with np.errstate(invalid="ignore"):
            apart = np.abs(reference - full)
        noise = float(np.max(apart, where=np.isfinite(apart), initial=0.0))
    noise = max(noise, shaken)
    largest = float(np.max(np.abs(full), where=np.isfinite(full), initial=0.0))
    tolerance = trial.tolerance(dtype, min(noise, _MOST_NOISE * largest))
    results = [compare(custom, each, tolerance) for each in against]
    return next((each for each in results if each.ok), results[0])


def _cause(trial: Trial, position: int, custom: Array, full: Array) -> str:
    found = ""
    if np.isfinite(custom).all():
        coarse = Tolerance(1e-2, 1e-2)
        value = host(trial.taken_value(position))
        found = cause_of(Case(custom, full, coarse, value, {}, {}))
    return found or "overflow or underflow, cancellation, or a sum in too narrow a dtype"
