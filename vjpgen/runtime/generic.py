"""A lifted function for any signature: what generated ones do, with the arguments in one tuple."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vjpgen.runtime.wrapping import LiftedCall


def lifted(call: LiftedCall, *slots: Any) -> Any:
    """Split, call, merge and publish, as a generated lifted function does.

    For functions that no generated code stands for: `vjpgen.custom_vjp`, and functions whose
    decorators have changed the parameters that the source shows.
    """
    split = call.split(*slots)

    def primal(*operands: Any) -> Any:
        with split.primal(operands) as run:
            return run.outputs(run.call(*run.arguments))

    def forward(*operands: Any) -> Any:
        with split.forward(operands) as run:
            rule = run.vjp if split.rule.forward is None else run.fwd
            output, residuals = rule(*run.arguments)
            return run.outputs(output), run.residuals(residuals)

    def backward(saved: Any, cotangents: Any) -> Any:
        with split.backward(saved, cotangents) as run:
            return run.tangent_operands(run.bwd(*run.nondiff, run.residuals, run.tangents))

    function = split.custom_vjp(primal)
    function.defvjp(forward, backward)
    output, state = split.merge(function(*split.operands))
    split.publish(state)
    return output
