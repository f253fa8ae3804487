"""How far rounding moves outputs and gradients that are what is left of larger numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from vjpgen.testing.comparing import host
from vjpgen.testing.differences import jitter, parts
from vjpgen.testing.directions import direction, generator
from vjpgen.testing.tolerances import Tolerance, epsilon
from vjpgen.testing.trial import Trial

# In double precision it is too little to matter, in half precision steps would be too long.
_LEAST, _MOST = 1e-10, 1e-5
_NOISE = 16.0


def of_outputs(trial: Trial) -> list[float]:
    """Return by how much rounding moves each output."""
    compiled = trial.memory["plain_results"]
    call = trial.plain.results if compiled is None else compiled.call
    count = len(trial.memory["cotangents"][0])
    return _measured(trial, "outputs", count, lambda arrays: call(arrays)[0])


def of_gradients(trial: Trial) -> list[float]:
    """Return by how much rounding moves the rule's gradient of each leaf."""
    compiled, first = trial.memory["custom_compiled"], trial.memory["cotangents"][0]
    count = len(trial.targets)
    if compiled is None:
        return [0.0] * count
    return _measured(
        trial, "gradients", count, lambda arrays: compiled.call(arrays, first).gradients
    )


def widened(trial: Trial, tolerance: Tolerance, noise: float) -> Tolerance:
    """Allow for rounding, unless the user says what is allowed."""
    if trial.settings.atol is not None:
        return tolerance
    return replace(tolerance, absolute=max(tolerance.absolute, _NOISE * noise))


def _measured(
    trial: Trial, name: str, count: int, function: Callable[[list[Any]], Sequence[Any]]
) -> list[float]:
    """Measure it over steps of some roundings, all leaves moved at once."""
    known: dict[str, list[float]] = trial.memory.setdefault("rounding_of", {})
    if name in known:
        return known[name]
    unit = epsilon(trial.memory["computed_in"])
    if not _LEAST < unit < _MOST:
        return [0.0] * count
    sizes = [len(parts([each])) for each in function(list(trial.arrays))]
    values = trial.custom.taken(trial.arrays)
    lines = [
        host(direction(generator(trial.settings.seed, 6, number), value)) * host(value)
        for number, value in enumerate(values)
    ]

    def at(step: float) -> np.ndarray[Any, Any]:
        moved = [
            jnp.asarray((host(value) + step * line).astype(value.dtype))
            for value, line in zip(values, lines, strict=True)
        ]
        return parts(function(trial.custom.put(trial.arrays, moved)))

    found = np.split(jitter(at, unit), np.cumsum(sizes)[:-1])
    known[name] = [float(np.max(each, initial=0.0)) for each in found]
    return known[name]
