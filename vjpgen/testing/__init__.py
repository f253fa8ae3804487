"""Tests of rules, and what `vjpgen inspect` and verification need of one.

The names are bound when they are first used, so that importing this package imports neither jax nor
flax.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vjpgen.testing.checking import check_rule
    from vjpgen.testing.report import Finding, Leaf, RuleReport

_HOMES = {
    "Finding": "vjpgen.testing.report",
    "Leaf": "vjpgen.testing.report",
    "RuleReport": "vjpgen.testing.report",
    "check_rule": "vjpgen.testing.checking",
}

__all__ = ["Finding", "Leaf", "RuleReport", "check_rule"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
