"""Whether the backward rule changes anything besides returning tangents."""

from __future__ import annotations

import functools
import hashlib
import inspect
import random
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from vjpgen.testing.libraries import HIDDEN
from vjpgen.testing.trial import NotApplicableError, Trial

_DEPTH = 4
_MOST_ITEMS = 200


def check_effects(trial: Trial) -> None:
    """The backward rule leaves globals, captured variables and random numbers as they are."""
    functions = [*trial.ruled.rules]
    if not functions:
        functions = [trial.ruled.function]
    states: list[Mapping[str, Any]] = []

    def run(arrays: Any, cotangents: Any) -> Any:
        _, pull, _ = trial.custom.vjp(arrays)
        states.append(_state(functions))
        gradients = pull(cotangents)
        states.append(_state(functions))
        return gradients

    arguments = list(trial.arrays), trial.memory["cotangents"][0]
    if trial.memory["custom_compiled"] is None:
        run(*arguments)
    else:
        jax.eval_shape(run, *arguments)
    before, after = states[-2:]
    for name, value in after.items():
        if before.get(name) != value:
            grown = _is_grown(before.get(name), value)
            trial.tell(
                "effects",
                f"the backward rule changes {name}",
                "warning" if grown else "error",
                cause="a cache, which is harmless if it holds what never changes"
                if grown
                else "state kept in Python: JAX runs the rule when it traces, not when it computes",
            )
    _check_callbacks(trial)
    if not trial.ruled.rules and not trial.has_errors(["effects"]):
        raise NotApplicableError(
            "the backward rule is not known; only the function's names were watched"
        )


def _check_callbacks(trial: Trial) -> None:
    compiled, source = (trial.memory[f"{each}_compiled"] for each in ("custom", "source"))
    if compiled is None or not compiled.jaxpr.effects:
        return
    known = set() if source is None else {type(each) for each in source.jaxpr.effects}
    more = [each for each in compiled.jaxpr.effects if type(each) not in known]
    if not more:
        return
    names = sorted({type(each).__name__ for each in more})
    only_prints = all("Debug" in name for name in names)
    trial.tell(
        "effects",
        f"the compiled rule has effects that the source has not: {', '.join(names)}",
        "warning" if only_prints else "error",
        cause="`jax.debug`, which prints or calls back"
        if only_prints
        else "a callback that is not pure: JAX runs a rule as often as it likes, or not at all",
    )


# -- what can be compared --------------------------------------------------------------------------


def _state(functions: Sequence[Callable[..., Any]]) -> Mapping[str, Any]:
    """Return what the functions' code refers to, in a form that can be compared."""
    found: dict[str, Any] = {
        "the state of `random`": hash(random.getstate()),
        "the state of `numpy.random`": _digest(np.random.get_state(legacy=False)["state"]["key"]),
    }
    seen: set[int] = set()
    pending = [*functions]
    while pending:
        function = _plain(pending.pop())
        if not isinstance(function, types.FunctionType) or id(function) in seen:
            continue
        seen.add(id(function))
        if function.__code__.co_filename.startswith(HIDDEN):
            continue
        for name, value in _references(function):
            if isinstance(_plain(value), types.FunctionType):
                pending.append(value)
            elif not isinstance(value, (types.ModuleType, type)):
                found[name] = _mark(value, _DEPTH)
    return found


def _plain(function: Any) -> Any:
    """Return the Python function behind wrappers."""
    while isinstance(function, functools.partial):
        function = function.func
    function = getattr(function, "__func__", function)
    return inspect.unwrap(function) if callable(function) else function


def _references(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield the globals, the captured variables and the defaults of a function, with names."""
    for name in _global_names(function.__code__):
        if name in function.__globals__:
            yield f"the global `{name}`", function.__globals__[name]
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        if cell != types.CellType():
            yield f"the captured variable `{name}`", cell.cell_contents
    for number, value in enumerate(function.__defaults__ or ()):
        yield f"default {number} of `{function.__name__}`", value


def _global_names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _global_names(constant)


def _mark(value: Any, depth: int) -> Any:
    """Return what changes when a value does."""
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return repr(value)
    if isinstance(value, (np.ndarray, np.generic)):
        return "array", id(value), _digest(value)
    if isinstance(value, jax.Array) or not depth:
        return id(value)
    if isinstance(value, dict) and len(value) <= _MOST_ITEMS:
        return {repr(key): _mark(part, depth - 1) for key, part in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)) and len(value) <= _MOST_ITEMS:
        return type(value).__name__, len(value), *(_mark(part, depth - 1) for part in value)
    attributes = getattr(value, "__dict__", None)
    if isinstance(attributes, dict) and not callable(value):
        return id(value), _mark(attributes, depth - 1)
    return id(value)


def _digest(array: Any) -> Any:
    array = np.asarray(array)
    if array.dtype == object:
        return id(array)
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def _is_grown(before: Any, after: Any) -> bool:
    """Tell whether entries were added to a dict, and the others are what they were."""
    if not isinstance(before, dict) or not isinstance(after, dict):
        return False
    return all(key in after and after[key] == value for key, value in before.items())
