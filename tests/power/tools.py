"""The four ways to check a gradient, each given the same function and arguments."""

from __future__ import annotations

import dataclasses
import functools
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

from tests.power.case import Arguments, Case, Function, Make
from vjpgen.testing import RuleReport, check_rule
from vjpgen.testing.subjects import bind

TOOLS = {
    "check_rule": "`vjpgen.testing.check_rule`",
    "check_vjp": "`jax.test_util.check_vjp`",
    "check_grads": "`jax.test_util.check_grads`",
    "differences": "finite differences",
}


# Programs run once or twice, so that optimizing them takes longer than it spares; the same ones are
# compiled for many rules.
_QUICKLY = {
    "jax_disable_most_optimizations": True,
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}


@contextmanager
def compiled_quickly() -> Iterator[None]:
    """Spare JAX what it can be spared while the tools run."""
    names = (*_QUICKLY, "jax_compilation_cache_dir")
    before = {name: jax.config.values[name] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        for name, value in (*_QUICKLY.items(), ("jax_compilation_cache_dir", folder)):
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        yield
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What a tool says of a rule.

    Args:
        says: that it passes, that it fails, or nothing, since it raised something else.
        detail: the traceback, for whoever wants to know why.
    """

    says: Literal["passes", "fails", "crashes"]
    detail: str = ""


def verdict(tool: str, case: Case, seed: int = 0, *, double: bool = False) -> Verdict:
    """Have a tool check a rule.

    Args:
        tool: its name.
        case: the rule.
        seed: of the arguments, and of the directions of tools that take one.
        double: whether to give the arguments in 64-bit floats; `check_rule` does so itself.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if tool == "check_rule":
                reported(case, seed, raises=True)
            else:
                with _precision(double):
                    function, arguments = _of_arrays(case, seed, double)
                    _OTHERS[tool](function, arguments, seed, double)
        except AssertionError as error:
            return Verdict("fails", str(error))
        except Exception as error:
            return Verdict("crashes", "".join(traceback.format_exception(error)))
    return Verdict("passes")


def reported(
    case: Case, seed: int = 0, function: Function | None = None, *, raises: bool = False
) -> RuleReport:
    """Return what `check_rule` reports at its defaults.

    Args:
        case: the rule.
        seed: of the arguments and the directions.
        function: the function, where it was made before.
        raises: as for `check_rule`.
    """
    function = case.make() if function is None else function
    arguments = case.arguments(np.random.default_rng(seed))
    return check_rule(function, *arguments, seed=seed, raises=raises, **case.claims)


def caught(tool: str, case: Case, *, double: bool = False) -> bool:
    """Tell whether a tool finds a wrong rule: what it says of the right one too does not count."""
    if verdict(tool, case, double=double).says == "passes":
        return False
    if case.control is None or tool == "check_rule":
        return True
    return _passes(tool, case.control, case.arguments, double)


@functools.cache
def _passes(tool: str, make: Make, arguments: Arguments, double: bool) -> bool:
    right = Case("", "", "", make, arguments, control=make)
    return verdict(tool, right, double=double).says == "passes"


@contextmanager
def _precision(double: bool) -> Iterator[None]:
    with jax.enable_x64(double):
        yield


def _of_arrays(case: Case, seed: int, double: bool) -> tuple[Function, tuple[Any, ...]]:
    """Return the function and its arguments as the others take them.

    Modules are applied to variables, which become arguments. Where a rule is wrong, what has no
    gradient is closed over, as one has to; rules that are right are given as they are.
    """
    function, arguments = case.make(), case.arguments(np.random.default_rng(seed))
    modules = any(isinstance(leaf, nn.Module) for leaf in jax.tree.leaves(arguments))
    if modules:
        subject = bind(lambda *args: function(*args), arguments)
        inputs = [each.value for each in subject.inputs]
        wanted = [each.differentiated for each in subject.inputs]
        call = lambda *arrays: subject.call(arrays)[0]  # noqa: E731
    else:
        inputs, structure = jax.tree.flatten(arguments)
        wanted = [not case.control or jnp.issubdtype(_dtype(x), jnp.inexact) for x in inputs]
        call = lambda *arrays: function(*jax.tree.unflatten(structure, arrays))  # noqa: E731
    if double:
        inputs = [_doubled(x) for x in inputs]

    def closed(*differentiated: Any) -> Any:
        given = iter(differentiated)
        return call(*[next(given) if w else x for x, w in zip(inputs, wanted, strict=True)])

    return closed, tuple(x for x, w in zip(inputs, wanted, strict=True) if w)


def _dtype(x: Any) -> Any:
    return jnp.result_type(x) if not isinstance(x, jax.Array) else x.dtype


def _doubled(x: Any) -> Any:
    if jnp.issubdtype(_dtype(x), jnp.complexfloating):
        return jnp.asarray(x, jnp.complex128)
    return jnp.asarray(x, jnp.float64) if jnp.issubdtype(_dtype(x), jnp.floating) else x


# -- the others ------------------------------------------------------------------------------------


def _check_vjp(function: Function, arguments: tuple[Any, ...], seed: int, double: bool) -> None:
    jax.test_util.check_vjp(function, lambda *args: jax.vjp(function, *args), arguments)


def _check_grads(function: Function, arguments: tuple[Any, ...], seed: int, double: bool) -> None:
    jax.test_util.check_grads(function, arguments, order=2, modes=["rev"])


def _differences(function: Function, arguments: tuple[Any, ...], seed: int, double: bool) -> None:
    """Compare along one random direction."""
    step, tolerance = (1e-6, 1e-5) if double else (1e-3, 1e-2)
    rng = np.random.default_rng(seed)
    along = [jnp.asarray(rng.normal(size=x.shape), x.dtype) for x in arguments]
    output, vjp = jax.vjp(function, *arguments)
    weights = jax.tree.map(lambda y: jnp.asarray(rng.normal(size=y.shape), y.dtype), output)
    found = sum(jnp.vdot(t, d).real for t, d in zip(vjp(weights), along, strict=True))
    beyond = function(*[x + step * d for x, d in zip(arguments, along, strict=True)])
    before = function(*[x - step * d for x, d in zip(arguments, along, strict=True)])
    slopes = jax.tree.map(lambda a, b: (a - b) / (2 * step), beyond, before)
    pairs = zip(jax.tree.leaves(slopes), jax.tree.leaves(weights), strict=True)
    expected = sum(jnp.vdot(w, s).real for s, w in pairs)
    np.testing.assert_allclose(found, expected, tolerance, tolerance / 10)


_OTHERS: dict[str, Callable[[Function, tuple[Any, ...], int, bool], None]] = {
    "check_vjp": _check_vjp,
    "check_grads": _check_grads,
    "differences": _differences,
}
