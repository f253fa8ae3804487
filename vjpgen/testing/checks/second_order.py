"""Whether a gradient that is claimed exact has exact derivatives of its own."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vjpgen.testing.comparing import compare, host
from vjpgen.testing.directions import direction, generator
from vjpgen.testing.failures import in_short
from vjpgen.testing.sides import Side
from vjpgen.testing.texts import both, place
from vjpgen.testing.tolerances import Tolerance
from vjpgen.testing.trial import NotApplicableError, Trial

_LOOSER = 100.0


def check_order2(trial: Trial) -> None:
    """The gradient of the gradient is autodiff's, where both exist."""
    exact = [
        position
        for position, (target, judged) in enumerate(
            zip(trial.targets, trial.memory["judged"], strict=True)
        )
        if target.claim == "exact" and judged.relation == "exact"
    ]
    if not exact:
        raise NotApplicableError("no gradient is both claimed and found to be exact")
    places = tuple(trial.custom.chosen[position] for position in exact)
    try:
        wanted = _second(trial, dataclasses.replace(trial.source, chosen=places))
    except Exception as error:
        raise NotApplicableError(
            f"JAX cannot differentiate the source twice ({in_short(error)})"
        ) from None
    try:
        found = _second(trial, dataclasses.replace(trial.custom, chosen=places))
    except Exception as error:
        raise NotApplicableError(f"the rule cannot be differentiated ({in_short(error)})") from None
    for position, ours, theirs in zip(exact, found, wanted, strict=True):
        _compare(trial, position, ours, theirs)


def _compare(trial: Trial, position: int, ours: Any, theirs: Any) -> None:
    target, reference = trial.targets[position], host(theirs)
    fitting: Tolerance = trial.memory["tolerances"][position]
    # what cancels in second derivatives is larger than they are: beside the first ones, too
    size = float(np.max(np.abs(trial.memory["custom"][position]), initial=0.0))
    tolerance = Tolerance(
        _LOOSER * fitting.relative,
        _LOOSER * fitting.floor,
        _LOOSER * fitting.absolute + 1e-12 * size,
    )
    if not np.isfinite(reference).all():
        return
    result = compare(host(ours)[None], reference[None], tolerance)
    if not result.ok:
        texts = both(result.found, result.expected)
        trial.tell(
            "order2",
            f"the second derivative with respect to `{target.input.path}` is wrong: {texts[0]}"
            f"{place(result.where[1:])}, where autodiff of the source gives {texts[1]}",
            target=target,
            found=texts[0],
            expected=texts[1],
            cause="a residual that is cut off by `stop_gradient`, NumPy or an integer, or an inner "
            "rule that is not exact",
        )


def _second(trial: Trial, side: Side) -> list[Any]:
    """Differentiate a random combination of all gradients."""
    cotangents = trial.memory["cotangents"][0]
    values = side.taken(trial.arrays)
    weights = [
        direction(generator(trial.settings.seed, 4, position), value)
        for position, value in enumerate(values)
    ]

    def combined(values: Any, arrays: Any) -> Any:
        gradients = side.gradient(side.put(arrays, values), cotangents)
        pairs = zip(gradients, weights, strict=True)
        return sum(jnp.real(jnp.sum(gradient * weight)) for gradient, weight in pairs)

    arguments = values, list(trial.arrays)
    run = jax.grad(combined)
    if trial.memory["custom_compiled"] is not None:
        run = side.compile(run, *arguments).call
    with side.context():
        return run(*arguments)
