"""What is claimed of arguments that an example leaves to their defaults.

They have slots like any other, and a tangent that is wrong is wrong. But `exact=True` is rarely
meant for an `eps=1e-6` of which the rule says, by None, that it has no gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Literal

from vjpgen.testing.claims import Claimed
from vjpgen.testing.sides import Side
from vjpgen.testing.subjects import Input

# What is zero where their operands are.
_CARRIERS = frozenset({"broadcast_in_dim", "convert_element_type", "copy", "reshape", "squeeze"})


def settle(
    claims: Sequence[Claimed | None],
    inputs: Sequence[Input],
    defaults: Collection[str],
    are_zero: Callable[[], Sequence[bool]],
) -> tuple[list[Claimed | None], list[Input]]:
    """Weaken what True claims of arguments that are left to their defaults.

    That all are exact says nothing of one to which the rule gives no gradient; and that all are
    surrogates is true where others differ.

    Args:
        claims: the claim on each leaf.
        inputs: the leaves.
        defaults: the slots that are left to their defaults.
        are_zero: tells of each leaf whether the rule gives it none.

    Returns:
        The claims, and the leaves that are now claimed to be zero.
    """
    wide = [
        claim is not None and not claim.outright and each.slot in defaults
        for claim, each in zip(claims, inputs, strict=True)
    ]
    kinds = {claim.kind for claim, is_wide in zip(claims, wide, strict=True) if claim and is_wide}
    if not kinds:
        return list(claims), []
    zero = are_zero() if "exact" in kinds else [False] * len(claims)
    given = [claim for claim, is_wide in zip(claims, wide, strict=True) if claim and not is_wide]
    others = {claim.kind: claim for claim in reversed(given) if not claim.outright}
    found: list[Claimed | None] = []
    weakened: list[Input] = []
    for claim, each, is_wide, is_zero in zip(claims, inputs, wide, zero, strict=True):
        if claim is None or not is_wide:
            found.append(claim)
        elif claim.kind == "exact" and is_zero:
            found.append(Claimed("zero", each.slot, False))
            weakened.append(each)
        else:
            found.append(others.get(claim.kind, claim))
    return found, weakened


def zeros(side: Side, arrays: Sequence[Any]) -> list[bool]:
    """Tell of each leaf whether its gradient is zero whatever the arrays are."""

    def gradient(arrays: Sequence[Any]) -> Any:
        outputs, pull, _ = side.vjp(arrays)
        return pull([jnp.ones_like(output) for output in outputs])

    try:
        return _zeros(jax.make_jaxpr(gradient)(list(arrays)))
    except Exception:  # that the checks tell of
        return [False] * len(side.chosen)


def _zeros(jaxpr: ClosedJaxpr) -> list[bool]:
    """Tell of each output whether it is zero."""
    known = {
        var: not value.any()
        for var, value in zip(jaxpr.jaxpr.constvars, jaxpr.consts, strict=True)
        if hasattr(value, "any")
    }

    def is_zero(atom: Any) -> bool:
        return not atom.val if isinstance(atom, Literal) else known.get(atom, False)

    for equation in jaxpr.jaxpr.eqns:
        inner = equation.params.get("jaxpr")
        if equation.primitive.name in _CARRIERS:
            known[equation.outvars[0]] = is_zero(equation.invars[0])
        elif isinstance(inner, ClosedJaxpr) and len(inner.jaxpr.outvars) == len(equation.outvars):
            known.update(zip(equation.outvars, _zeros(inner), strict=True))
    return [is_zero(atom) for atom in jaxpr.jaxpr.outvars]
