"""Checks: pure functions from facts to findings, gathered and never raised.

A check speaks only where the source leaves no doubt. What a decorator, an import or a second
binding may have changed is left to the runtime.
"""

from __future__ import annotations

from collections.abc import Iterator

from vjpgen.compiler.check.backward import code_of
from vjpgen.compiler.check.captured import check_captured
from vjpgen.compiler.check.dtypes import check_dtypes
from vjpgen.compiler.check.effects import check_effects
from vjpgen.compiler.check.kinds import check_kind, check_other_rules
from vjpgen.compiler.check.names import check_names
from vjpgen.compiler.check.nondiff import check_nondiff
from vjpgen.compiler.check.order import check_order
from vjpgen.compiler.check.residuals import check_residuals
from vjpgen.compiler.check.returns import check_bwd_returns, check_fwd_returns
from vjpgen.compiler.check.signatures import check_bwd, check_fwd
from vjpgen.compiler.check.writes import check_writes
from vjpgen.compiler.facts import Facts
from vjpgen.compiler.targets import Target
from vjpgen.diagnostics import Diagnostic


def check(facts: Facts, target: Target) -> Iterator[Diagnostic]:
    """Every finding about one annotated function; what hangs on a finding is not looked at."""
    unfit = [*check_kind(facts), *target.refuse(facts)]
    yield from unfit[:1]
    yield from check_other_rules(facts)
    yield from check_names(facts)
    yield from check_order(facts)
    yield from check_writes(facts)
    if unfit or not facts.annotation.sound:
        return
    nondiff = list(check_nondiff(facts, target))
    yield from nondiff
    yield from check_fwd(facts)
    yield from check_fwd_returns(facts)
    rule, code = facts.bwd, code_of(facts.bwd, facts)
    if rule is not None and code is not None:
        yield from check_captured(facts, rule, code)
        yield from check_effects(facts, rule, code)
        yield from check_dtypes(facts, rule, code)
    if not nondiff:
        uncallable = list(check_bwd(facts))
        yield from uncallable
        yield from check_bwd_returns(facts)
        if rule is not None and code is not None and not uncallable:
            yield from check_residuals(facts, rule, code)
