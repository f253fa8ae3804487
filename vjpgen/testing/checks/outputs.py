"""Whether the function with its rule gives what the source gives, differentiated or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vjpgen.runtime.errors import TangentError
from vjpgen.runtime.leaves import is_extended
from vjpgen.testing.comparing import compare, host
from vjpgen.testing.directions import cotangents
from vjpgen.testing.report import Check
from vjpgen.testing.sides import Results, Side
from vjpgen.testing.texts import number, place
from vjpgen.testing.tolerances import Tolerance, allowed_dtype, epsilon, leading_to
from vjpgen.testing.trial import NotApplicableError, Trial

# In units of the dtype's epsilon: how much outputs of the same operations may differ.
_ROUNDING = {"bfloat16": 4.0, "float16": 8.0}
_OTHERWISE = 64.0


def check_primal(trial: Trial) -> None:
    """The function, not differentiated, gives the source's outputs, variables and updates."""
    wanted = _results(trial.plain, trial, "plain_results")
    trial.memory["results"] = wanted
    found = _results(trial.custom, trial, "custom_results")
    _compare(trial, "primal", found, wanted, "the source")
    _check_variables(trial)


def _results(side: Side, trial: Trial, name: str) -> Results:
    """Run a function, compiled where it can be, which is faster than one operation at a time."""
    try:
        compiled = side.compiled_results(trial.arrays)
    except Exception:
        trial.memory[name] = None
        return side.results(trial.arrays)
    trial.memory[name] = compiled
    return compiled.call(list(trial.arrays))


def check_forward(trial: Trial) -> None:
    """The forward rule gives what the primal gives."""
    outputs = trial.memory["results"][0]
    if not outputs:
        raise NotApplicableError("no output is of a floating point or complex dtype")
    components = sum(target.size for target in trial.targets)
    settings = trial.settings
    trial.memory["cotangents"] = cotangents(
        outputs, seed=settings.seed, count=settings.directions, inputs=components
    )
    first = trial.memory["cotangents"][0]
    try:
        compiled = trial.custom.compiled(trial.arrays, first)
        step = compiled.call(list(trial.arrays), first)
        found, trial.memory["first"] = (step.outputs, step.others), step.gradients
        trial.memory["custom_compiled"] = compiled
    except TangentError:
        raise
    except Exception as error:
        trial.memory["custom_compiled"], trial.memory["custom_error"] = None, error
        ours, trial.memory["pull"], others = trial.custom.vjp(trial.arrays)
        found = ours, others
    _compare(trial, "forward", found, trial.memory["results"], "the primal")


def _check_variables(trial: Trial) -> None:
    """Initializing the module with its rules gives the variables that it has without."""
    if trial.subject.initialize is None:
        return
    initialize = trial.subject.initialize
    jaxprs = [str(jax.make_jaxpr(initialize)())]
    with trial.ruled.without_rules():
        jaxprs.append(str(jax.make_jaxpr(initialize)()))
    if jaxprs[0] == jaxprs[1]:
        return
    found = initialize()
    with trial.ruled.without_rules():
        wanted = initialize()
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
        first = part * len(found[0])
        for position, pair in enumerate(zip(ours, theirs, strict=True)):
            what = f"{words} {position}"
            _compare_output(trial, check, *pair, what, whose, first + position)


def _compare_output(
    trial: Trial, check: Check, found: Any, wanted: Any, what: str, whose: str, number_of: int
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
    tolerance = Tolerance(0, 0) if exact else _allowed(trial, found.dtype, number_of)
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


def _allowed(trial: Trial, dtype: Any, place: int) -> Tolerance:
    """Return how far two runs of the same operations may be apart.

    Args:
        trial: the rule.
        dtype: that of an output.
        place: which output it is, the updates counted after the outputs.
    """
    theirs, ours = (
        [] if compiled is None else [leading_to(compiled.jaxpr, [place])]
        for compiled in map(trial.memory.get, ("plain_results", "custom_results"))
    )
    least = allowed_dtype(theirs, ours, dtype, trial.unit)
    unit = _ROUNDING.get(np.dtype(least).name, _OTHERWISE) * epsilon(least)
    return Tolerance(min(unit, 0.25), min(unit, 0.25))


def _cause(found: Any, wanted: Any, check: Check) -> str:
    if check == "forward" and wanted.any():
        factor = np.vdot(wanted, found) / np.vdot(wanted, wanted)
        if np.allclose(found, factor * wanted):
            return f"the forward rule's output is {number(complex(factor))} times the primal's"
    return {"forward": "the forward rule computes something else than the primal"}.get(check, "")


def check_structure(trial: Trial) -> None:
    """The backward rule's tangents have the structure, shapes and dtypes of the arguments."""
    if "first" not in trial.memory:
        trial.memory["first"] = trial.memory["pull"](trial.memory["cotangents"][0])
    gradients: Sequence[Any] = trial.memory["first"]
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
