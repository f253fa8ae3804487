"""`check_rule`: verification of one rule from a test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vjpgen.testing.render_text import render
from vjpgen.testing.report import RuleReport
from vjpgen.testing.verifying import verify

Names = bool | str | tuple[str, ...]


def check_rule(
    f: Callable[..., Any],
    *args: Any,
    exact: Names = True,
    surrogate: Names = (),
    zero: Names = (),
    state: Names = (),
    reference: Callable[..., Any] | None = None,
    seed: int = 0,
    directions: int = 8,
    rtol: float | None = None,
    atol: float | None = None,
    raises: bool = True,
    **kwargs: Any,
) -> RuleReport:
    """Test a rule numerically.

    Args:
        f: a function with a rule: generated, made by `vjpgen.custom_vjp`, `jax.custom_vjp` or
            `flax.linen.custom_vjp`, or any function of arrays that calls one.
        args: arguments to call it with; for a method the unbound module first.
        exact: the slots whose gradient is the true one: True for all that no other claim names,
            or names: an argument's, a collection's (`params`), a leaf's
            (`params.Dense_0.kernel`).
        surrogate: the slots whose gradient differs on purpose.
        zero: the slots whose gradient is zero.
        state: the slots whose gradient is new state.
        reference: a function to compare with in place of the primal's autodiff; takes what `f`
            takes.
        seed: what all random directions come from.
        directions: how many are drawn.
        rtol: the relative tolerance; by default what fits the dtype.
        atol: the absolute tolerance; by default what fits the dtype and the scale.
        raises: whether a rule that fails raises.
        kwargs: keyword arguments of `f`.

    Returns:
        The report.

    Raises:
        AssertionError: the rule fails; the text names the worst leaves and the seed.
    """
    __tracebackhide__ = True  # pytest shows the line of the test
    claims = {"exact": exact, "surrogate": surrogate, "zero": zero, "state": state}
    report = verify(
        f,
        args,
        keywords=kwargs,
        claims=claims,
        reference=reference,
        seed=seed,
        directions=directions,
        rtol=rtol,
        atol=atol,
    )
    if raises and not report.ok:
        raise AssertionError(render(report))
    return report
