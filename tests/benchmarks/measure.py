"""Timing of several variants side by side, and what their programs are made of."""

from __future__ import annotations

import collections
import dataclasses
import gc
import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
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
    """Seconds of each variant, in rounds: the values at one index were measured together."""

    seconds: Mapping[str, list[float]]

    def median(self, name: str) -> float:
        """The median of one variant."""
        return statistics.median(self.seconds[name])

    def ratio(self, name: str, other: str) -> float:
        """The median of the rounds' ratios of two variants."""
        pairs = zip(self.seconds[name], self.seconds[other], strict=True)
        return statistics.median(first / second for first, second in pairs)


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
    for name, loss in _rounds(losses, repeat):
        for figure, spent, program in _stages(loss, params, x):
            seconds[figure][name].append(spent)
            compiled[name] = program
    for name, program in _rounds(compiled, 10 * repeat):
        seconds[STEP][name].append(_best(lambda program=program: program(params, x), 5))
    for name, loss in _rounds(losses, repeat):
        gradient = jax.grad(loss)
        seconds[EAGER][name].append(_best(lambda gradient=gradient: gradient(params, x), 1))
    return Report(
        {figure: Samples(dict(values)) for figure, values in seconds.items()},
        {name: _program(found) for name, found in compiled.items()},
    )


def _rounds(items: Mapping[str, Any], count: int) -> Iterator[tuple[str, Any]]:
    """Yield all items `count` times, each time beginning with another one.

    Garbage is collected between the rounds alone, so that no variant pays for another's.
    """
    pairs = list(items.items())
    for turn in range(count):
        shift = turn % len(pairs)
        gc.collect()
        gc.disable()
        try:
            yield from pairs[shift:] + pairs[:shift]
        finally:
            gc.enable()


def _stages(loss: Loss, params: Any, x: Any) -> Iterator[tuple[str, float, Any]]:
    """Trace, lower and compile the gradient; the last value of each is the compiled program."""
    jax.clear_caches()  # what a program pays that traces its step once
    first, _ = _timed(lambda: _jitted(loss).trace(params, x))
    again, traced = _timed(lambda: _jitted(loss).trace(params, x))
    lower, lowered = _timed(traced.lower)
    compile_, compiled = _timed(lowered.compile)
    spent = {FIRST: first, AGAIN: again, LOWER: lower, COMPILE: compile_}
    for figure, value in spent.items():
        yield figure, value, compiled


def _jitted(loss: Loss) -> Any:
    """A gradient function that JAX has never seen."""
    return jax.jit(jax.grad(lambda params, x: loss(params, x)))


def _timed(function: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    value = jax.block_until_ready(function())
    return time.perf_counter() - start, value


def _best(function: Callable[[], Any], count: int) -> float:
    """The best of some timings, after one that does not count."""
    jax.block_until_ready(function())
    return min(_timed(function)[0] for _ in range(count))


def _program(compiled: Any) -> Program:
    counts = collections.Counter(_INSTRUCTION.findall(compiled.as_text()))
    size = compiled.memory_analysis().temp_size_in_bytes
    return Program(size, dict(sorted(counts.items())))
