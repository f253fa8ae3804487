"""Whether the function with its rule gives what the source gives, differentiated or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vjpgen.runtime.leaves import is_extended
from vjpgen.testing.comparing import compare, host
from vjpgen.testing.report import Check
from vjpgen.testing.sides import Results
from vjpgen.testing.texts import number, place
from vjpgen.testing.tolerances import Tolerance, coarsest, epsilon
from vjpgen.testing.trial import NotApplicableError, Trial

_ROUNDING = 64.0


def check_primal(trial: Trial) -> None:
    """The function, not differentiated, gives the source's outputs, variables and updates."""
    wanted = trial.plain.results(trial.arrays)
    trial.memory["results"] = wanted
    _compare(trial, "primal", trial.custom.results(trial.arrays), wanted, "the source")
    _check_variables(trial)


def check_forward(trial: Trial) -> None:
    """The forward rule gives what the primal gives."""
    outputs, pull, others = trial.custom.vjp(trial.arrays)
    trial.memory["pull"] = pull
    _compare(trial, "forward", (outputs, others), trial.memory["results"], "the primal")
    if not outputs:
        raise NotApplicableError("no output is of a floating point or complex dtype")


def _check_variables(trial: Trial) -> None:
    """Initializing the module with its rules gives the variables that it has without."""
    if trial.subject.initialize is None:
        return
    found = trial.subject.initialize()
    with trial.ruled.without_rules():
        wanted = trial.subject.initialize()
    structures = [jax.tree_util.tree_structure(each) for each in (found, wanted)]
    if structures[0] != structures[1]:
        names = [sorted(map(_path, _leaves(each))) for each in (found, wanted)]
        trial.tell(
            "primal",
            "initializing the module gives other variables than in the source",
            found=", ".join(names[0]),
            expected=", ".join(names[1]),
        )
        return
    for (path, value), (_, other) in zip(_leaves(found), _leaves(wanted), strict=True):
        if not _same(value, other):
            trial.tell(
                "primal",
                f"initializing the module gives another value for `{_path((path, value))}` than in "
                "the source",
                leaf=_path((path, value)),
            )


def _leaves(tree: Any) -> list[tuple[Any, Any]]:
    return jax.tree_util.tree_flatten_with_path(tree)[0]


def _path(leaf: tuple[Any, Any]) -> str:
    return jax.tree_util.keystr(leaf[0], simple=True, separator=".")


def _same(value: Any, other: Any) -> bool:
    return value.dtype == other.dtype and np.array_equal(_numbers(value), _numbers(other))


def _numbers(value: Any) -> Any:
    """Return what NumPy can compare: the data of keys and of extended dtypes."""
    if is_extended(value):
        is_key = jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
        value = jax.random.key_data(value) if is_key else value.astype(np.float32)
    return host(value)


def _compare(trial: Trial, check: Check, found: Results, wanted: Results, whose: str) -> None:
    """Compare outputs, then the outputs without tangents and the updates."""
    for part, words in ((0, "output"), (1, "other output or update")):
        ours, theirs = list(found[part]), list(wanted[part])
        if len(ours) != len(theirs):
            trial.tell(
                check, f"there are {len(ours)} {words}s, where {whose} has {len(theirs)}"
            )  # fmt: skip
            continue
        for position, pair in enumerate(zip(ours, theirs, strict=True)):
            _compare_output(trial, check, *pair, f"{words} {position}", whose)


def _compare_output(
    trial: Trial, check: Check, found: Any, wanted: Any, what: str, whose: str
) -> None:
    kinds = [f"{each.dtype}{list(each.shape)}" for each in (found, wanted)]
    if kinds[0] != kinds[1]:
        trial.tell(
            check,
            f"{what} is {kinds[0]}, where {whose} gives {kinds[1]}",
            found=kinds[0],
            expected=kinds[1],
        )
        return
    exact = not jnp.issubdtype(found.dtype, np.inexact)
    tolerance = Tolerance(0, 0) if exact else rounding(trial, found.dtype)
    result = compare(_numbers(found)[None], _numbers(wanted)[None], tolerance)
    if not result.ok:
        where = place(result.where[1:])
        trial.tell(
            check,
            f"{what} differs from what {whose} gives: {number(result.found)} instead of "
            f"{number(result.expected)}{where} ({result.wrong} of {found.size} components)",
            found=f"{number(result.found)}{where}",
            expected=number(result.expected),
            cause=_cause(_numbers(found), _numbers(wanted), check),
        )


def rounding(trial: Trial, dtype: Any) -> Tolerance:
    """Return how far two runs of the same operations may be apart."""
    if "jaxpr" not in trial.memory:
        with trial.plain.context():
            traced = jax.make_jaxpr(trial.plain.results)(list(trial.arrays))
        trial.memory["jaxpr"] = traced
    unit = _ROUNDING * epsilon(coarsest([trial.memory["jaxpr"]], dtype))
    return Tolerance(min(unit, 0.25), min(unit, 0.25))


def _cause(found: Any, wanted: Any, check: Check) -> str:
    if check == "forward" and wanted.any():
        factor = np.vdot(wanted, found) / np.vdot(wanted, wanted)
        if np.allclose(found, factor * wanted):
            return f"the forward rule's output is {number(complex(factor))} times the primal's"
    return {"forward": "the forward rule computes something else than the primal"}.get(check, "")


def check_structure(trial: Trial) -> None:
    """The backward rule's tangents have the structure, shapes and dtypes of the arguments."""
    cotangents: Sequence[Any] = trial.memory["cotangents"][0]
    gradients = trial.memory["pull"](cotangents)
    trial.memory["first"] = gradients
    values = trial.custom.taken(trial.arrays)
    for target, gradient, value in zip(trial.targets, gradients, values, strict=True):
        if (gradient.shape, gradient.dtype) != (value.shape, value.dtype):
            trial.tell(
                "structure",
                f"the gradient of `{target.input.path}` is {gradient.dtype}{list(gradient.shape)}, "
                f"where the leaf is {value.dtype}{list(value.shape)}",
                target=target,
                found=f"{gradient.dtype}{list(gradient.shape)}",
                expected=f"{value.dtype}{list(value.shape)}",
            )
