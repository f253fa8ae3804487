"""A pytest plugin: Flax's names for custom gradients are vjpgen's, and every module has a rule.

Loaded in the process that runs Flax's tests. `nn.custom_vjp` and `flax.core.lift.custom_vjp` are
replaced; the `__call__` of every module class, Flax's own and those that the tests define, gets a
rule whose `bwd` is the vjp function itself, so that nothing may change.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flax.linen as nn
from flax.core import lift as scopes
from flax.linen.module import Module

import vjpgen
from vjpgen.runtime import generic
from vjpgen.runtime.lifting import lift

# The file that the report goes to, and "off" where nothing is to be patched.
REPORT = "VJPGEN_FLAX_OWN_REPORT"
MODE = "VJPGEN_FLAX_OWN_MODE"

_count: Counter[str] = Counter()
_outcomes: dict[str, str] = {}


def pytest_configure(config: Any) -> None:
    """Patch Flax before its tests are imported."""
    if os.environ.get(MODE) == "off":
        return
    nn.custom_vjp = scopes.custom_vjp = _custom_vjp  # pyright: ignore[reportAttributeAccessIssue]
    for layer in set(_subclasses(Module)):
        if layer.__module__.startswith("flax."):
            _give_rule(layer)
    wrapped: Any = Module.__dict__["__init_subclass__"].__func__

    def with_rule(cls: Any, *args: Any, **kwargs: Any) -> None:
        if not cls.__module__.startswith(("flax.", "vjpgen.")):
            _give_rule(cls)
        wrapped(cls, *args, **kwargs)

    Module.__init_subclass__ = classmethod(with_rule)  # pyright: ignore[reportAttributeAccessIssue]


@functools.wraps(vjpgen.custom_vjp)
def _custom_vjp(*args: Any, **kwargs: Any) -> Any:
    _count["custom_vjp"] += 1
    return vjpgen.custom_vjp(*args, **kwargs)


def _subclasses(cls: Any) -> Iterator[Any]:
    for found in cls.__subclasses__():
        yield found
        yield from _subclasses(found)


def _give_rule(cls: Any) -> None:
    call = cls.__dict__.get("__call__")
    if inspect.isfunction(call) and not hasattr(call, "nowrap"):
        cls.__call__ = lift(
            call,
            _lifted,
            name=f"{cls.__qualname__}.__call__",
            at="",
            bwd=lambda: _identity,
            target="linen",
            grad_vars=True,
            missing="autodiff",
        )


def _lifted(call: Any, *slots: Any) -> Any:
    _count["lifted"] += 1
    return generic.lifted(call, *slots)


def _identity(vjp_fn: Any, tangent: Any) -> Any:
    _count["backward"] += 1
    return vjp_fn(tangent)


def pytest_runtest_logreport(report: Any) -> None:
    """Note the outcome of each test."""
    if report.when == "call" or report.failed:
        _outcomes[report.nodeid] = report.outcome


def pytest_sessionfinish(session: Any) -> None:
    """Leave the report."""
    data = {"outcomes": _outcomes, "count": dict(_count)}
    Path(os.environ[REPORT]).write_text(json.dumps(data), encoding="utf-8")
