"""The rule's gradient against autodiff of the source and against finite differences."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from vjpgen.runtime.leaves import is_extended
from vjpgen.testing import probes
from vjpgen.testing.causes import Case, cause_of
from vjpgen.testing.comparing import Array, Comparison, compare, host, samples, stacked
from vjpgen.testing.nearby import is_inside, nearby
from vjpgen.testing.report import Leaf, Relation
from vjpgen.testing.rough import rough
from vjpgen.testing.sides import Compiled
from vjpgen.testing.texts import both, place
from vjpgen.testing.tolerances import (
    Tolerance,
    allowed_dtype,
    coarsest,
    draws,
    epsilon,
    leading_to,
    tolerance_of,
)
from vjpgen.testing.trial import Target, Trial

_NEARBY = 2  # how many other points are tried
_MUCH_FINER = 1e-6  # beside which differences in low precision do not matter in high precision


@dataclasses.dataclass(frozen=True, eq=False)
class Judged:
    """What the gradient of a leaf turned out to be.

    Args:
        relation: that.
        comparison: with autodiff, or with finite differences where that says nothing.
        tolerance: what was allowed.
        note: what else is to be said.
        by_differences: whether `comparison` is with finite differences.
        missing: the number of components that could not be compared.
        infinite: which are not finite, as autodiff's are not; None for none.
    """

    relation: Relation
    comparison: Comparison
    tolerance: Tolerance
    note: str = ""
    by_differences: bool = False
    missing: int = 0
    infinite: Array | None = None


def check_gradient(trial: Trial) -> None:
    """Every leaf's gradient is what the rule claims it to be."""
    custom = _custom(trial)
    reference = _reference(trial)
    trial.memory["custom"], trial.memory["reference"] = custom, reference
    tolerances = _tolerances(trial, custom, reference)
    trial.memory["tolerances"] = tolerances
    judged: list[Judged] = []
    for number, target in enumerate(trial.targets):
        theirs = None if reference is None else reference[number]
        judged.append(_judge(trial, number, custom[number], theirs, tolerances[number]))
        trial.leaves.append(_leaf(trial, target, custom[number], theirs, judged[-1]))
    trial.memory["judged"] = judged
    _check_source(trial, reference)
    _check_claims(trial, custom, reference, judged)
    if reference is not None:
        triples = zip(custom, reference, tolerances, strict=True)
        _check_nearby(trial, [_compare_finite(*each).ok for each in triples])


# -- gradients -------------------------------------------------------------------------------------


def _custom(trial: Trial) -> list[Array]:
    directions = trial.memory["cotangents"]
    compiled: Compiled | None = trial.memory["custom_compiled"]
    if compiled is None:
        return stacked([trial.memory["pull"](each) for each in directions])
    arrays = list(trial.arrays)
    return stacked([compiled.call(arrays, each).gradients for each in directions])


def _reference(trial: Trial) -> list[Array] | None:
    """Differentiate the source; None where JAX cannot."""
    directions = trial.memory["cotangents"]
    trial.memory["source_compiled"] = None
    try:
        compiled = trial.source.compiled(trial.arrays, directions[0])
        trial.memory["source_compiled"] = compiled
        arrays = list(trial.arrays)
        return stacked([compiled.call(arrays, each).gradients for each in directions])
    except Exception:
        try:
            _, pull, _ = trial.source.vjp(trial.arrays)
            return stacked([pull(each) for each in directions])
        except Exception as error:
            trial.memory["no_reference"] = f"{type(error).__name__}: {first_line(error)}"
            return None


def first_line(error: BaseException) -> str:
    """Return the first line of what an exception says."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else ""


# -- tolerances ------------------------------------------------------------------------------------


def _tolerances(
    trial: Trial, custom: Sequence[Array], reference: Sequence[Array] | None
) -> list[Tolerance]:
    """Find out how exact each leaf's gradient can be."""
    ours, theirs = (
        [] if trial.memory[name] is None else [trial.memory[name].jaxpr]
        for name in ("custom_compiled", "source_compiled")
    )
    trial.memory["computed_in"] = allowed_dtype(theirs, ours, np.float64, trial.unit)
    dtypes = [
        allowed_dtype(
            [leading_to(each, [result]) for each in theirs],
            [leading_to(each, [result]) for each in ours],
            np.float64,
            trial.unit,
        )
        for result in range(-len(trial.targets), 0)  # the last results are the gradients
    ]
    used = [coarsest(ours, each) for each in dtypes]
    trial.memory["coarser"] = [
        most if epsilon(most) > epsilon(dtype) else None
        for most, dtype in zip(used, dtypes, strict=True)
    ]
    trial.memory["random"] = any(map(draws, (*ours, *theirs)))
    noise = _noise(trial, custom, reference, [epsilon(each) for each in dtypes])
    return [trial.tolerance(*each) for each in zip(dtypes, noise, strict=True)]


def _noise(
    trial: Trial,
    custom: Sequence[Array],
    reference: Sequence[Array] | None,
    units: Sequence[float],
) -> list[float]:
    """Measure how much rounding there is in each leaf's gradient.

    The gradients in low precision differ from those in double precision by the rounding errors of
    the former; those of the latter are smaller by as much as the precision is higher. Where other
    random numbers are drawn in low precision, the gradients differ by those, too, which matters
    unless the precision is much higher.
    """
    low = rough(trial)
    found = [0.0] * len(trial.targets)
    for some, full in ((low.custom, custom), (low.reference, reference)):
        if some is None or full is None:
            continue
        for number, (coarse, fine) in enumerate(zip(some, full, strict=True)):
            with np.errstate(invalid="ignore"):
                apart = np.abs(coarse - fine[: len(coarse)])
            apart = float(np.max(apart, where=np.isfinite(apart), initial=0.0))
            dtype = coarsest(low.jaxprs, low.dtype(trial.custom.chosen[number]))
            finer = min(units[number] / epsilon(dtype), 1.0)
            if trial.memory["random"] and finer > _MUCH_FINER:
                continue
            found[number] += apart * finer
    return found


# -- judging ---------------------------------------------------------------------------------------


def _judge(
    trial: Trial, number: int, custom: Array, reference: Array | None, tolerance: Tolerance
) -> Judged:
    """Compare a leaf's gradient with autodiff; where that says nothing, with differences."""
    if trial.targets[number].claim == "state":
        return Judged("state", _against(custom, reference, tolerance), tolerance)
    theirs = np.full_like(custom, np.nan) if reference is None else reference
    compared = np.isfinite(theirs) | _opposite(custom, theirs)
    ours, theirs = np.where(compared, custom, 0), np.where(compared, theirs, 0)
    judged = _judge_finite(trial, number, ours, theirs, tolerance)
    if compared.all():
        return judged
    infinite = ~compared & ~np.isfinite(custom) & (reference is not None)
    if infinite.any():
        judged = dataclasses.replace(judged, infinite=infinite.any(axis=0))
    if judged.relation != "exact":
        return dataclasses.replace(judged, relation=_relation(custom))
    return _judge_rest(trial, number, custom, ~compared & ~infinite, judged)


def _relation(custom: Array) -> Relation:
    return "different" if custom.any() else "zero"


def _judge_finite(
    trial: Trial, number: int, custom: Array, reference: Array, tolerance: Tolerance
) -> Judged:
    """Compare with autodiff; where that is not the source's derivative, with differences."""
    comparison = compare(custom, reference, tolerance)
    if comparison.ok:
        return Judged("exact", comparison, tolerance)
    wrong = Judged(_relation(custom), comparison, tolerance)
    if trial.has_own_reference or not custom.any() or not np.isfinite(custom).all():
        return wrong
    probe = probes.probe(trial, number, always=True)
    if probe is None:
        return wrong
    looked, of = probes.at_kinks(trial, number, custom, reference, tolerance)
    if looked:
        note = "differs from autodiff at kinks alone, where each side has another derivative"
        note += f" ({looked} of {of} components were looked at)" if looked < of else ""
        return Judged("exact", probe.compare(custom), tolerance, note)
    off = np.abs(custom - reference) > tolerance.allowed(reference, comparison.scale)
    if probe.compare(reference).ok or not probe.covered()[off].all():
        return wrong
    against = probe.compare(custom)
    if not against.ok:
        return wrong
    note = "autodiff of the source differs from it, finite differences agree with it"
    return Judged("exact", against, probe.tolerance, note, by_differences=True)


def _judge_rest(trial: Trial, number: int, custom: Array, asked: Array, judged: Judged) -> Judged:
    """Compare with differences what autodiff is not finite for; the others have been judged."""
    probe = None
    if asked.any() and not trial.has_own_reference:
        probe = probes.probe(trial, number, rest=True)
    covered = np.zeros(custom.shape, bool) if probe is None else probe.covered(asked)
    missing = int((asked & ~covered).any(axis=0).sum())
    judged = dataclasses.replace(judged, missing=missing)
    is_known = not asked.all() and (judged.infinite is None or not judged.infinite.all())
    if probe is None or not covered.any():
        return judged if is_known else dataclasses.replace(judged, relation="unknown")
    against = probe.compare(custom, asked)
    if not against.ok:
        return dataclasses.replace(
            judged,
            relation=_relation(custom),
            comparison=against,
            tolerance=probe.tolerance,
            by_differences=True,
        )
    reason = "autodiff of the source gives nan or inf"
    if trial.memory["reference"] is None:
        reason = "JAX cannot differentiate the source"
    judged = dataclasses.replace(judged, note=f"compared with finite differences: {reason}")
    if is_known:
        return judged
    return dataclasses.replace(judged, comparison=against, tolerance=probe.tolerance)


def _opposite(custom: Array, reference: Array) -> Array:
    """Tell which components are infinite with the other sign."""
    if custom.dtype.kind == "c":
        return np.zeros(custom.shape, bool)
    return np.isinf(custom) & np.isinf(reference) & (custom != reference)


def _compare_finite(custom: Array, reference: Array, tolerance: Tolerance) -> Comparison:
    """Compare where the reference is finite."""
    finite = np.isfinite(reference)
    return compare(np.where(finite, custom, 0), np.where(finite, reference, 0), tolerance)


def _against(custom: Array, reference: Array | None, tolerance: Tolerance) -> Comparison:
    if reference is None:
        return compare(custom, np.full_like(custom, np.nan), tolerance)
    return compare(custom, reference, tolerance)


def _leaf(
    trial: Trial, target: Target, custom: Array, reference: Array | None, judged: Judged
) -> Leaf:
    compared = judged.comparison
    shown = reference if reference is not None else np.full_like(custom, np.nan)
    ours, theirs = samples(custom, shown, trial.settings.seed)
    value = target.input.value
    return Leaf(
        target.input.slot,
        target.input.path,
        tuple(value.shape),
        str(value.dtype),
        target.claim,
        judged.relation,
        0.0 if judged.relation == "state" else compared.error,
        compared.tolerance,
        ours,
        theirs,
        len(custom),
    )


def _check_source(trial: Trial, reference: Sequence[Array] | None) -> None:
    """Autodiff of the source is the derivative of the source."""
    if reference is None:
        trial.tell(
            "gradient",
            "JAX cannot differentiate the source, so that gradients were compared with finite "
            f"differences ({trial.memory['no_reference']})",
            "note",
        )
        return
    if trial.has_own_reference:
        return
    for number, target in enumerate(trial.targets):
        probe = probes.probe(trial, number)
        result = None if probe is None else probe.compare(reference[number])
        if result is not None and not result.ok:
            found, expected = both(result.found, result.expected)
            trial.tell(
                "gradient",
                f"autodiff of the source is not its derivative with respect to "
                f"`{target.input.path}`: {found}, where finite differences give {expected}",
                "warning" if trial.targets[number].claim == "exact" else "note",
                target=target,
                found=found,
                expected=expected,
                cause="`stop_gradient`, a rule inside of the source, or a step function",
            )


def _check_nearby(trial: Trial, same: Sequence[bool]) -> None:
    """What is claimed to be exact is so a little off the example, too.

    In an example, factors may be 1 and terms 0, as scales and biases are at first.

    Args:
        trial: the rule.
        same: for each leaf, whether its gradient is autodiff's in the example.
    """
    ours, theirs = trial.memory["custom_compiled"], trial.memory["source_compiled"]
    if ours is None or theirs is None or any(map(is_extended, trial.custom.taken(trial.arrays))):
        return
    cotangents = trial.memory["cotangents"]
    for number in range(1, _NEARBY + 1):
        values = nearby(trial, number, alike=True)
        if not is_inside(trial, values):
            continue
        arrays = trial.custom.put(trial.arrays, values)
        weights = cotangents[number % len(cotangents)]
        found, wanted = (each.call(arrays, weights).gradients for each in (ours, theirs))
        for position, target in enumerate(trial.targets):
            known = any(
                each.leaf == target.input.path and each.severity != "note"
                for each in trial.findings
            )
            if target.claim == "exact" and same[position] and not known:
                _compare_nearby(trial, position, host(found[position]), host(wanted[position]))


def _compare_nearby(trial: Trial, position: int, found: Array, wanted: Array) -> None:
    result = _compare_finite(found[None], wanted[None], trial.memory["tolerances"][position])
    if result.ok:
        return
    target, texts = trial.targets[position], both(result.found, result.expected)
    trial.tell(
        "gradient",
        f"the gradient of `{target.input.path}` is right in the example, but wrong for arguments "
        f"that are up to an eighth off: {texts[0]}{place(result.where[1:])}, where the true "
        f"gradient is {texts[1]}",
        target=target,
        found=texts[0],
        expected=texts[1],
        cause="a factor that is 1 in the example, or a term that is 0",
    )


# -- claims ----------------------------------------------------------------------------------------


def _check_claims(
    trial: Trial,
    custom: Sequence[Array],
    reference: Sequence[Array] | None,
    judged: Sequence[Judged],
) -> None:
    for number, (target, each) in enumerate(zip(trial.targets, judged, strict=True)):
        theirs = None if reference is None else reference[number]
        if target.claim in ("exact", ""):
            _tell_missing(trial, target, each)
        if target.claim == "exact":
            if each.relation not in ("exact", "unknown"):
                _tell_wrong(trial, number, custom[number], theirs, each)
            elif each.note:
                trial.tell("gradient", f"`{target.input.path}`: {each.note}", "note", target=target)
        elif target.claim == "zero":
            _check_zero(trial, target, custom[number])
        elif target.claim == "state":
            _check_state(trial, target, custom[number], theirs, each.tolerance)
        elif not each.comparison.ok and _breaks(custom[number], theirs):
            _tell_wrong(trial, number, custom[number], theirs, each)
        elif not target.claim:
            _tell_unclaimed(trial, target, each)
    _check_stale(trial, judged)


def _breaks(custom: Array, reference: Array | None) -> bool:
    """Tell whether a gradient is not finite where autodiff's is, or where there is none."""
    finite = True if reference is None else np.isfinite(reference)
    return bool((~np.isfinite(custom) & finite).any())


def _tell_missing(trial: Trial, target: Target, judged: Judged) -> None:
    """Say of how many components it is not known whether they are right."""
    total = max(target.size, 1)
    if judged.infinite is not None:
        places = np.argwhere(judged.infinite)
        count, first = len(places), place([int(i) for i in places[0]])
        trial.tell(
            "gradient",
            f"the gradient of `{target.input.path}` is not finite{first}"
            f"{f' ({count} of {total} components)' if count > 1 else ''}, as autodiff's is not: "
            "take another example",
            "warning",
            target=target,
        )
    if judged.missing:
        which = f"{judged.missing} of {total} components" if total > 1 else "it"
        why = "JAX cannot differentiate the source"
        if trial.memory["reference"] is not None:
            why = "the reference is not finite there"
        trial.tell(
            "gradient",
            f"the gradient of `{target.input.path}` was not compared ({which}): {why}, and finite "
            "differences say nothing",
            "warning" if judged.relation == "unknown" else "note",
            target=target,
        )


def _tell_wrong(
    trial: Trial, number: int, custom: Array, reference: Array | None, judged: Judged
) -> None:
    """Say where a gradient is wrong, and what usually causes that."""
    target, result = trial.targets[number], judged.comparison
    cause = ""
    source = "finite differences give" if judged.by_differences else "the true gradient is"
    if reference is not None and not judged.by_differences and np.isfinite(result.expected):
        others = {
            other.input.path: stack
            for other, stack in zip(trial.targets, trial.memory["reference"], strict=True)
            if other is not target and stack.shape == reference.shape
        }
        value = host(trial.taken_value(number))
        sizes = axis_sizes(trial)
        finite = np.isfinite(reference)
        ours, theirs = np.where(finite, custom, 0), np.where(finite, reference, 0)
        case = Case(ours, theirs, judged.tolerance, value, others, sizes)
        cause = _coarseness(trial, number, ours, theirs) or cause_of(case)
    found, expected = both(result.found, result.expected)
    where, wrong = " along a line", ""
    if len(result.where) == custom.ndim:
        where = place(result.where[1:])
        wrong = f" ({result.wrong} of {target.size} components)" if where else ""
    trial.tell(
        "gradient",
        f"the gradient of `{target.input.path}` is wrong: {found}{where}, where {source} "
        f"{expected}{wrong}; off by {result.error:.2g} of the largest component, "
        f"{result.tolerance:.1g} allowed",
        target=target,
        found=f"{found}{where}",
        expected=expected,
        cause=cause,
    )


def _coarseness(trial: Trial, number: int, custom: Array, reference: Array) -> str:
    """Name the dtype where the rule computes less exactly than source and example, and that is it.

    Args:
        trial: the rule.
        number: which leaf.
        custom: the rule's gradients.
        reference: those of the source.
    """
    coarse = trial.memory["coarser"][number]
    if coarse is None or not compare(custom, reference, tolerance_of(coarse)).ok:
        return ""
    name = np.dtype(coarse).name
    return f"the rule computes in {name}, and neither the source nor the example does"


def axis_sizes(trial: Trial) -> dict[int, str]:
    """Return the lengths of axes, and what has them: what sums and means are taken over."""
    found: dict[int, str] = {}
    outputs = [each.shape for each in trial.memory["results"][0]]
    inputs = [(target.input.path, target.input.value.shape) for target in trial.targets]
    for name, shape in (*((f"output {n}", shape) for n, shape in enumerate(outputs)), *inputs):
        for axis, size in enumerate(shape):
            found.setdefault(size, f"axis {axis} of {name}")
        total = int(np.prod(shape))
        if len(shape) > 1:
            found.setdefault(total, name)
            for axis, size in enumerate(shape):
                if size:
                    found.setdefault(total // size, f"{name} without axis {axis}")
    return found


def _check_zero(trial: Trial, target: Target, custom: Array) -> None:
    if custom.any():
        where = np.unravel_index(np.argmax(np.abs(custom)), custom.shape)
        found, _ = both(custom[where].item(), 0.0)
        at = place([int(i) for i in where[1:]])
        trial.tell(
            "claim",
            f"the gradient of `{target.input.path}` is claimed to be zero, but is {found}{at}",
            target=target,
            found=f"{found}{at}",
            expected="0",
        )


def _check_state(
    trial: Trial, target: Target, custom: Array, reference: Array | None, tolerance: Tolerance
) -> None:
    path = target.input.path
    if not np.isfinite(custom).all():
        trial.tell(
            "claim",
            f"the state that comes back for `{path}` is not finite",
            target=target,
            found="nan" if np.isnan(custom).any() else "inf",
        )
    elif custom.any() and reference is not None and compare(custom, reference, tolerance).ok:
        trial.tell(
            "claim",
            f"`{path}` is claimed to be state, but what comes back is its true gradient: claim it "
            "`exact`",
            target=target,
        )


def _tell_unclaimed(trial: Trial, target: Target, judged: Judged) -> None:
    start = f"nothing is claimed of `{target.input.path}`: its gradient is"
    if judged.relation == "exact":
        words = f"{start} the true one; claim it `exact` to keep it so"
        trial.tell("claim", words, "note", target=target)
        return
    if judged.relation == "unknown":
        return
    found, expected = both(judged.comparison.found, judged.comparison.expected)
    trial.tell(
        "claim",
        f"{start} zero, and the true one is not; claim it `zero` if that is on purpose"
        if judged.relation == "zero"
        else f"{start} not the true one; claim it `surrogate` if that is on purpose, and `exact` "
        "if it is not",
        "warning",
        target=target,
        found=found,
        expected=expected,
    )


def _check_stale(trial: Trial, judged: Sequence[Judged]) -> None:
    """A surrogate differs from the true gradient, in one of the leaves at least that it names."""
    groups: dict[Any, list[int]] = {}
    for number, target in enumerate(trial.targets):
        if target.claim == "surrogate":
            groups.setdefault(target.claimed, []).append(number)
    for claimed, members in groups.items():
        if all(judged[number].relation == "exact" for number in members):
            trial.tell(
                "claim",
                f"`{claimed.name}` is claimed to be a surrogate, but its gradient is the true one: "
                "claim it `exact`",
                slot=trial.targets[members[0]].input.slot,
                leaf=claimed.name,
                cause="a stale claim, or an example on which the two do not differ",
            )
