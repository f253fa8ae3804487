"""Checks: pure functions from facts to findings, gathered and never raised."""

from __future__ import annotations

from collections.abc import Iterator

from vjpgen.compiler.facts import Facts
from vjpgen.compiler.targets import Target
from vjpgen.diagnostics import Diagnostic


def check(facts: Facts, target: Target) -> Iterator[Diagnostic]:
    """Every finding about one annotated function."""
    yield from target.refuse(facts)
