"""Whether the gradients are right in the example's own precision, too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vjpgen.testing.causes import Case, cause_of
from vjpgen.testing.comparing import Array, Comparison, compare, host
from vjpgen.testing.rough import is_double, rough
from vjpgen.testing.texts import both, place
from vjpgen.testing.tolerances import Tolerance, coarsest
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
    for position in range(len(trial.targets)):
        theirs = None if found.reference is None else found.reference[position]
        _check_leaf(trial, position, found.custom[position], theirs, found.jaxprs)


def _check_leaf(
    trial: Trial,
    position: int,
    custom: Array,
    reference: Array | None,
    jaxprs: Sequence[Any],
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
        result = _closest(trial, custom, reference, full, dtype)
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
    trial: Trial, custom: Array, reference: Array | None, full: Array, dtype: Any
) -> Comparison:
    """Compare with autodiff in the same precision, and with the rule in double precision.

    Either will do: random draws differ from precision to precision, and autodiff may be far off.
    """
    against = [full] if reference is None else [reference, full]
    noise = 0.0
    if reference is not None:
        with np.errstate(invalid="ignore"):
            apart = np.abs(reference - full)
        noise = float(np.max(apart, where=np.isfinite(apart), initial=0.0))
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
