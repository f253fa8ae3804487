"""Whether a function's gradient depends on a value at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Literal


def depends_on(
    function: Callable[[Sequence[Any]], tuple[Any, ...]],
    operands: Sequence[Any],
    suspects: Sequence[int],
) -> list[int]:
    """Return those of the operands `suspects` whose gradient is not zero by structure.

    Traces the gradient abstractly and follows the cotangents through it; a part of a nested
    trace counts as dependent on all that goes in.

    Args:
        function: takes the operands, returns differentiable arrays.
        operands: arrays.
        suspects: indices of differentiable operands.
    """

    def gradient(values: list[Any], scale: Any) -> Any:
        def inner(chosen: list[Any]) -> tuple[Any, ...]:
            full = list(values)
            for index, value in zip(suspects, chosen, strict=True):
                full[index] = value
            return function(full)

        out, pullback = jax.vjp(inner, [values[index] for index in suspects])
        # made of the outputs, so that they vary, or are sharded, over the same mesh axes
        return pullback(tuple(x * scale.astype(x.dtype) for x in out))

    try:
        closed = jax.make_jaxpr(gradient)(list(operands), jnp.float32(1))
    except Exception:  # no reverse mode (a while loop): whatever the output depends on counts
        closed = jax.make_jaxpr(lambda values, scale: [scale, *function(values)])(
            list(operands), jnp.float32(1)
        )
        return _outputs_reach(closed.jaxpr, suspects)
    live = {closed.jaxpr.invars[-1]}
    for equation in closed.jaxpr.eqns:
        if any(not isinstance(v, Literal) and v in live for v in equation.invars):
            live.update(equation.outvars)
    results = closed.jaxpr.outvars
    return [
        index
        for index, variable in zip(suspects, results, strict=True)
        if not isinstance(variable, Literal) and variable in live
    ]


def _outputs_reach(jaxpr: Any, suspects: Sequence[int]) -> list[int]:
    needed = {v for v in jaxpr.outvars if not isinstance(v, Literal)}
    for equation in reversed(jaxpr.eqns):
        if any(v in needed for v in equation.outvars):
            needed.update(v for v in equation.invars if not isinstance(v, Literal))
    return [index for index in suspects if jaxpr.invars[index] in needed]
