"""From a function with a rule and its arguments to a report."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from flax.core.scope import Filter

from vjpgen.runtime import sharing
from vjpgen.runtime.errors import DroppedTangentWarning, TangentError
from vjpgen.testing import defaults
from vjpgen.testing.binding import Bound, bound
from vjpgen.testing.checks.effects import check_effects
from vjpgen.testing.checks.gradients import check_gradient
from vjpgen.testing.checks.linearity import check_linear
from vjpgen.testing.checks.outputs import check_forward, check_primal, check_structure
from vjpgen.testing.checks.precision import check_precision
from vjpgen.testing.checks.repeats import check_leak, check_repeat
from vjpgen.testing.checks.residuals import check_residuals
from vjpgen.testing.checks.second_order import check_order2
from vjpgen.testing.checks.transforms import (
    check_checkpoint,
    check_jit,
    check_scan,
    check_vmap,
)
from vjpgen.testing.claims import Named, resolve
from vjpgen.testing.failures import in_short
from vjpgen.testing.places import Place, place_of
from vjpgen.testing.report import Check, RuleReport, status_of
from vjpgen.testing.ruled import Ruled, ruled, settled
from vjpgen.testing.sides import Side, chosen, raised
from vjpgen.testing.subjects import Subject
from vjpgen.testing.trial import NotApplicableError, Settings, Target, Trial

_SEVERITIES = ("error", "warning", "note")
_CHECKS: tuple[tuple[Check, Callable[[Trial], None]], ...] = (
    ("primal", check_primal),
    ("forward", check_forward),
    ("structure", check_structure),
    ("gradient", check_gradient),
    ("linear", check_linear),
    ("repeat", check_repeat),
    ("jit", check_jit),
    ("vmap", check_vmap),
    ("scan", check_scan),
    ("checkpoint", check_checkpoint),
    ("order2", check_order2),
    ("leak", check_leak),
    ("effects", check_effects),
    ("precision", check_precision),
    ("residuals", check_residuals),
)
# Without these nothing else can be checked.
_NEEDED = frozenset({"primal", "forward", "structure", "gradient"})
# These compare one run with another.
_COMPARING = frozenset({"jit", "vmap", "scan", "checkpoint", "order2", "precision"})
_UNREACHED = "no rule is reached: the function and its source are the same program"
_ADVICE = (
    "give the function with the rule (generated, or by `jax.custom_vjp` or its like), arguments on "
    "which it is called, or a `reference` to compare with"
)


def verify(
    function: Callable[..., Any],
    arguments: Sequence[Any],
    *,
    keywords: Mapping[str, Any] | None = None,
    claims: Mapping[str, Any] | None = None,
    grad_vars: Filter | None = None,
    place: Place | None = None,
    reference: Callable[..., Any] | None = None,
    plain: Callable[..., Any] | None = None,
    seed: int = 0,
    directions: int = 8,
    rtol: float | None = None,
    atol: float | None = None,
) -> RuleReport:
    """Verify one rule on one set of arguments; a rule that is wrong never raises.

    64-bit floats are switched on meanwhile, whether the caller has them or not; arguments are given
    in their own precision. What JAX is set to for debugging is switched off.

    Args:
        function: the function with a rule, or one that calls functions with rules.
        arguments: its positional arguments; for a method the unbound module first.
        keywords: its keyword arguments.
        claims: for each of exact, surrogate, zero and state True or names of slots; by default
            what the rule's annotation claims.
        grad_vars: the collections that are differentiated; by default the rule's.
        place: what the report calls it; by default what the rule says.
        reference: a function to compare with in place of the source's autodiff.
        plain: the function as the source has it, un-annotated; by default its primal.
        seed: what all random directions come from.
        directions: how many are drawn.
        rtol: the relative tolerance; by default what fits the dtype.
        atol: the absolute tolerance; by default what fits the dtype and the scale.

    Raises:
        ExampleError: the arguments do not fit the function, or nothing can be differentiated.
        ValueError: the seed is negative, or no directions are asked for.
    """
    start = time.perf_counter()
    _check_numbers(seed, directions)
    about = ruled(function, arguments)
    if grad_vars is not None:
        about = replace(about, grad_vars=grad_vars)
    place = place or place_of(about)
    if claims is None:
        claims = about.rule.claims if about.rule is not None else {}
    settings = Settings(seed, directions, rtol, atol)
    with warnings.catch_warnings(record=True) as seen, sharing.disabled(), _undebugged():
        warnings.simplefilter("always")
        found = bound(about, keywords or {})
        with jax.enable_x64(True):
            trial, stopped = _trial(about, found, claims, reference, plain, settings)
            checks, skipped = _run(trial, stopped)
    for text in dict.fromkeys(
        str(each.message) for each in seen if issubclass(each.category, DroppedTangentWarning)
    ):
        trial.tell("structure", text, "warning")
    findings = sorted(trial.findings, key=lambda each: _SEVERITIES.index(each.severity))
    return RuleReport(
        place.name,
        place.filename,
        place.line,
        place.column,
        status_of(findings, checks, trial.leaves),
        tuple(dict.fromkeys(findings)),
        tuple(trial.leaves),
        trial.memory.get("residual_bytes"),
        trial.memory.get("autodiff_bytes"),
        seed,
        time.perf_counter() - start,
        checks,
        skipped,
    )


def _check_numbers(seed: int, directions: int) -> None:
    if seed < 0:
        raise ValueError(f"the seed is {seed}; it must not be negative")
    if directions < 1:
        raise ValueError(f"{directions} directions are asked for; at least one is needed")


@contextlib.contextmanager
def _undebugged() -> Iterator[None]:
    """Compile functions, and let nan be, whatever JAX is set to: checks need both."""
    with jax.disable_jit(False), jax.debug_nans(False), jax.debug_infs(False):
        yield


# -- setting up ------------------------------------------------------------------------------------


def _trial(
    about: Ruled,
    found: Bound,
    claims: Mapping[str, Any],
    reference: Callable[..., Any] | None,
    plain: Callable[..., Any] | None,
    settings: Settings,
) -> tuple[Trial, str]:
    """Set a trial up; say why it is to be stopped before it begins, "" where it is not."""
    subject = found.subject
    places = chosen(subject.inputs)
    own = [each.value for each in subject.inputs]
    arrays = [raised(value) for value in own]
    custom = Side(subject.call, places)
    about, has_rules = _settled(about, subject, own)
    source = Side(subject.calling(about.source), places, about.without_rules)
    if plain is not None:
        source = Side(subject.calling(plain), places, about.without_rules)
    narrow = ""
    if not _runs(source, arrays):
        arrays = own
    elif (reason := _refusal(custom, arrays)) and not _refusal(custom, own):
        arrays, narrow = own, reason
    compared = source
    if reference is not None:
        compared = Side(subject.calling(reference), places)
    leaves = [Named(each.slot, each.path, each.differentiated) for each in subject.inputs]
    resolved = resolve(
        claims,
        [leaf for leaf in leaves if leaf.slot],
        parameters=about.signature.parameters,
        untested=found.untested,
    )
    inputs = [subject.inputs[place] for place in places]
    claimed, weakened = defaults.settle(
        resolved.by_leaf, inputs, found.defaults, lambda: defaults.zeros(custom, arrays)
    )
    targets = [Target(*pair) for pair in zip(inputs, claimed, strict=True)]
    trial = Trial(
        about,
        subject,
        custom,
        compared,
        source,
        targets,
        own,
        arrays,
        reference is not None,
        settings,
    )
    trial.findings += resolved.problems
    if narrow:
        trial.tell(
            "structure",
            "the rule does not take arrays of double precision, and is verified in the example's "
            f"own precision alone: {narrow}",
            "warning",
            cause="a dtype that the rule names, where that of an argument is meant",
        )
    for each in weakened:
        trial.tell(
            "claim",
            f"`{each.path}` is left to its default, and the rule gives it no gradient: claim it "
            "`zero`, or have the rule compute one",
            "warning",
            slot=each.slot,
            leaf=each.path,
        )
    for slot in found.untested:
        trial.tell(
            "gradient",
            f"the gradient of `{slot}` is not tested: the function reads it as a Python number, "
            "which has none",
            "warning",
            slot=slot,
        )
    stopped = "" if has_rules or reference is not None or plain is not None else _UNREACHED
    if stopped:
        trial.tell("gradient", f"{stopped}; {_ADVICE}")
    return trial, stopped


def _settled(about: Ruled, subject: Subject, arrays: Sequence[Any]) -> tuple[Ruled, bool]:
    call, source = subject.call, subject.calling(about.source)
    try:
        return settled(about, lambda: call(list(arrays)), lambda: source(list(arrays)))
    except Exception:  # that the checks tell of
        return about, True


def _runs(side: Side, arrays: Sequence[Any]) -> bool:
    """Tell whether a function takes arrays of double precision."""
    try:
        with side.context():
            jax.eval_shape(side.call, list(arrays))
    except Exception:
        return False
    return True


def _refusal(side: Side, arrays: Sequence[Any]) -> str:
    """Say why a function has no gradients of the arrays' own dtypes; nothing where it has."""

    def gradient(arrays: Sequence[Any]) -> Any:
        outputs, pull, _ = side.vjp(arrays)
        return pull([jnp.ones_like(output) for output in outputs])

    try:
        gradients = jax.eval_shape(gradient, list(arrays))
    except Exception as error:
        return in_short(error)
    kinds = [
        (found.dtype, value.dtype)
        for found, value in zip(gradients, side.taken(arrays), strict=True)
    ]
    return next((f"a tangent is {found}" for found, wanted in kinds if found != wanted), "")


# -- checking --------------------------------------------------------------------------------------


def _run(trial: Trial, stopped: str) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    done: list[str] = []
    skipped: list[tuple[str, str]] = []
    for name, check in _CHECKS:
        reason = stopped or _spoilt(trial, name)
        if reason:
            skipped.append((name, reason))
            continue
        try:
            with _reporting(trial, name):
                check(trial)
            done.append(name)
        except NotApplicableError as error:
            skipped.append((name, str(error)))
            if name in _NEEDED:
                stopped = str(error)
                trial.tell("gradient", f"nothing was verified: {stopped}", "warning")
        except _FailedError:
            done.append(name)
            if name in _NEEDED:
                stopped = f"the check `{name}` failed"
    return tuple(done), tuple(skipped)


def _spoilt(trial: Trial, name: Check) -> str:
    """Say why a check would find again, in other words, what another one has found."""
    if name in _COMPARING and trial.has_errors(["repeat"]):
        return "the rule does not do the same whenever it is run"
    return ""


class _FailedError(Exception):
    """A check could not go on, which has been recorded."""


@contextlib.contextmanager
def _reporting(trial: Trial, name: Check) -> Iterator[None]:
    """Record what a rule raises."""
    try:
        yield
    except NotApplicableError:
        raise
    except TangentError as error:
        trial.tell("precision" if name == "precision" else "structure", str(error))
        raise _FailedError from None
    except Exception as error:
        words = {
            "primal": "the function",
            "forward": "the forward rule",
            "structure": "the backward rule",
        }
        trial.tell(name, f"{words.get(name, 'the rule')} raised {in_short(error)}")
        raise _FailedError from None
