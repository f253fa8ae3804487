"""What XLA says of a compiled program."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from vjpgen.inspecting.flat import flatten
from vjpgen.inspecting.report import Program

_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?[\w.-]+ = ", re.MULTILINE)


def program_of(traced: Any) -> Program:
    """Compile what was traced (`jax.jit(f).trace(...)`) and ask what it costs."""
    compiled = traced.lower().compile()
    costs = _costs(compiled)
    memory = _told(compiled.memory_analysis)
    text = _told(compiled.as_text)
    return Program(
        operations=_count(flatten(traced.jaxpr)),
        instructions=None if text is None else len(_INSTRUCTION.findall(text)),
        flops=costs.get("flops"),
        accessed=costs.get("bytes accessed"),
        temporary=getattr(memory, "temp_size_in_bytes", None),
        peak=_peak(memory),
        jaxpr=str(traced.jaxpr),
    )


def _told(ask: Callable[[], Any]) -> Any:
    """Ask a backend; None where it does not tell, which each says in a way of its own."""
    try:
        return ask()
    except (NotImplementedError, RuntimeError, TypeError):
        return None


def _costs(compiled: Any) -> dict[str, float]:
    """Return XLA's figures; it leaves out what is zero, and a negative one stands for none."""
    told = _told(compiled.cost_analysis)
    if isinstance(told, list):
        told = told[0] if told else None
    figures = {"flops": 0.0, "bytes accessed": 0.0, **told} if told else {}
    return {name: float(figure) for name, figure in figures.items() if figure >= 0}


def _peak(memory: Any) -> int | None:
    """Return the most bytes at once, or what a backend that does not tell needs in all."""
    if memory is None:
        return None
    peak = getattr(memory, "peak_memory_in_bytes", 0)
    parts = (memory.argument_size_in_bytes, memory.output_size_in_bytes, memory.temp_size_in_bytes)
    return peak or sum(parts) - memory.alias_size_in_bytes


def _count(flat: Any) -> int:
    """Count operations, those inside loops and branches once."""
    inner = (_count(flatten(body)) for each in flat.equations for body in each.bodies)
    return len(flat.equations) + sum(inner)
