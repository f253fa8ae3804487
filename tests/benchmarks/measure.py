"""Timing of several variants side by side, and what their programs are made of."""

from __future__ import annotations

import collections
import dataclasses
import gc
import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import jax

from tests.benchmarks.variants import Loss

FIRST, AGAIN, LOWER, COMPILE, STEP, EAGER = (
    "trace, first",
    "trace, again",
    "lower",
    "compile",
    "step",
    "eager gradient",
)
# An instruction of optimized HLO: `name = type opcode(`; a tuple's type has spaces.
_INSTRUCTION = re.compile(
    r"^\s*(?:ROOT )?%?[\w.\-]+ = (?:\([^=]*?\)|\S+) ([\w\-]+)\(", re.MULTILINE
)


@dataclasses.dataclass(frozen=True)
class Program:
    """What a compiled step consists of."""

    temporary_bytes: int
    operations: Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class Samples:
    """Seconds of each variant, one value a round."""

    seconds: Mapping[str, list[float]]

    def median(self, name: str) -> float:
        """The median of one variant."""
        return statistics.median(self.seconds[name])

    def ratio(self, name: str, other: str) -> float:
        """The ratio of two variants' medians."""
        return self.median(name) / self.median(other)


@dataclasses.dataclass(frozen=True)
class Report:
    """What was measured of one workload: times by figure, programs by variant."""

    samples: Mapping[str, Samples]
    programs: Mapping[str, Program]


def measure(losses: Mapping[str, Loss], params: Any, x: Any, repeat: int) -> Report:
    """Measure every figure of every variant, in rounds that take the variants in turn."""
    seconds: dict[str, dict[str, list[float]]] = collections.defaultdict(
        lambda: collections.defaultdict(list)
    )
    compiled: dict[str, Any] = {}
    for frames, name, loss in _rounds(losses, repeat):
        times, compiled[name] = _stages(loss, params, x, frames)
        for figure, spent in times.items():
            seconds[figure][name].append(spent)
    for frames, name, program in _rounds(compiled, 10 * repeat):
        step = partial(program, params, x)
        seconds[STEP][name].append(min(_timed(step, frames)[0] for _ in range(5)))
    for frames, name, loss in _rounds(losses, repeat):
        gradient = partial(jax.grad(loss), params, x)
        jax.block_until_ready(gradient())  # what JAX compiles for it is not counted
        seconds[EAGER][name].append(_timed(gradient, frames)[0])
    return Report(
        {figure: Samples(dict(values)) for figure, values in seconds.items()},
        {name: _program(found) for name, found in compiled.items()},
    )


def _rounds(items: Mapping[str, Any], count: int) -> Iterator[tuple[int, str, Any]]:
    """Yield all items `count` times, each time beginning with another one.

    Garbage is collected between the rounds alone, so that no variant pays for another's. Each
    round has its own stack depth, the first value: see `_timed`.
    """
    pairs = list(items.items())
    for turn in range(count):
        shift = turn % len(pairs)
        gc.collect()
        gc.disable()
        try:
            for name, item in pairs[shift:] + pairs[:shift]:
                yield 9 * turn % 72, name, item
        finally:
            gc.enable()


def _stages(loss: Loss, params: Any, x: Any, frames: int) -> tuple[dict[str, float], Any]:
    """Trace, lower and compile the gradient: the times, and the compiled program."""
    jax.clear_caches()  # what a program pays that traces its step once
    first, _ = _timed(partial(_jitted(loss).trace, params, x), frames)
    again, traced = _timed(partial(_jitted(loss).trace, params, x), frames)
    lower, lowered = _timed(traced.lower, frames)
    compile_, compiled = _timed(lowered.compile, frames)
    return {FIRST: first, AGAIN: again, LOWER: lower, COMPILE: compile_}, compiled


def _jitted(loss: Loss) -> Any:
    """A gradient function that JAX has never seen."""
    return jax.jit(jax.grad(lambda params, x: loss(params, x)))


def _timed(function: Callable[[], Any], frames: int) -> tuple[float, Any]:
    """Call `function` below so many more Python frames.

    CPython keeps its stack in chunks of 16 KiB and asks the system for a new one whenever a call
    crosses an edge. A loop that happens to run at an edge takes up to 1.5 times as long, which
    says nothing about it; over different depths that evens out.
    """
    if frames:
        return _timed(function, frames - 1)
    start = time.perf_counter()
    value = jax.block_until_ready(function())
    return time.perf_counter() - start, value


def _program(compiled: Any) -> Program:
    counts = collections.Counter(_INSTRUCTION.findall(compiled.as_text()))
    size = compiled.memory_analysis().temp_size_in_bytes
    return Program(size, dict(sorted(counts.items())))
