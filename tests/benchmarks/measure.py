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

from tests.benchmarks.trial import tried
from tests.benchmarks.variants import Candidate, around, clear_caches
from tests.benchmarks.workloads import Workload

FIRST, AGAIN, LOWER, COMPILE, STEP, EAGER = FIGURES = (
    "trace, first",
    "trace, again",
    "lower",
    "compile",
    "step",
    "eager gradient",
)
# Of a number of rounds and seconds: the rounds of a figure, and its share of the time. Trying
# the variants gives a first round of the programs; a step is short.
_ROUNDS: Mapping[str, tuple[Callable[[int], int], float]] = {
    FIRST: (lambda rounds: rounds, 0.4),
    COMPILE: (lambda rounds: rounds - 1, 0.3),
    STEP: (lambda rounds: 10 * rounds, 0.1),
    EAGER: (lambda rounds: rounds, 0.2),
}
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
    """What was measured of one workload.

    Args:
        title: the workload's title.
        family: what the workload is one size of.
        depth: its number of layers, blocks or steps.
        samples: times by figure.
        programs: by variant.
        reasons: why a variant has no figures.
    """

    title: str
    family: str
    depth: int
    samples: Mapping[str, Samples]
    programs: Mapping[str, Program]
    reasons: Mapping[str, str]

    @property
    def left_out(self) -> list[str]:
        """The figures that were not measured."""
        return [figure for figure in FIGURES if figure not in self.samples]


@dataclasses.dataclass(frozen=True)
class Effort:
    """How much to measure of one workload.

    Args:
        rounds: at most so many rounds a figure.
        seconds: when so much time has passed, no further round begins; each figure has a share.
        compiled: whether to measure the program: lower, compile, step, and what it consists of.
        eager: whether to measure the gradient without `jit`.
    """

    rounds: int
    seconds: float
    compiled: bool = True
    eager: bool = True


def measure(workload: Workload, effort: Effort) -> Report:
    """Measure every figure of every variant, in rounds that take the variants in turn."""
    seconds: dict[str, dict[str, list[float]]] = collections.defaultdict(
        lambda: collections.defaultdict(list)
    )

    def compiled(name: str, traced: Any, frames: int = 0) -> Any:
        spent, lowered = _timed(traced.lower, frames)
        seconds[LOWER][name].append(spent)
        spent, program = _timed(lowered.compile, frames)
        seconds[COMPILE][name].append(spent)
        return program

    found = tried(workload, compiled if effort.compiled else None, effort.eager)
    able = list(found.candidates)
    if effort.eager:  # at once: what JAX has compiled for it is still there
        for frames, name, candidate in _rounds(found.candidates, effort, EAGER):
            gradient = partial(candidate.gradient(), *candidate.arguments)
            seconds[EAGER][name].append(_timed(gradient, frames)[0])
    if effort.compiled:
        spent = sum(sum(seconds[figure][name]) for figure in (LOWER, COMPILE) for name in able)
        for frames, name, candidate in _rounds(found.candidates, effort, COMPILE, spent):
            clear_caches()  # JAX keeps what it has lowered
            compiled(name, _tracing(candidate)(), frames)
    for frames, name, candidate in _rounds(found.candidates, effort, FIRST):
        clear_caches()  # what a program pays that traces its step once
        seconds[FIRST][name].append(_timed(_tracing(candidate), frames)[0])
        seconds[AGAIN][name].append(_timed(_tracing(candidate), frames)[0])
    for frames, name, program in _rounds(found.compiled, effort, STEP):
        step = partial(program, *found.candidates[name].arguments)
        seconds[STEP][name].append(min(_timed(step, frames)[0] for _ in range(5)))
    return Report(
        workload.title,
        workload.family,
        workload.depth,
        {
            figure: Samples({name: seconds[figure][name] for name in able})
            for figure in FIGURES
            if figure in seconds
        },
        {name: _program(program) for name, program in found.compiled.items()},
        found.reasons,
    )


def _rounds(
    items: Mapping[str, Any], effort: Effort, figure: str, spent: float = 0.0
) -> Iterator[tuple[int, str, Any]]:
    """Yield all items again and again as `effort` has it, each time beginning with another one.

    `spent` seconds of the figure's time have gone already.

    Garbage is collected between the rounds alone, so that no variant pays for another's. Each
    round has its own stack depth, the first value: see `_timed`.
    """
    count, share = _ROUNDS[figure]
    pairs = list(items.items())
    end = time.perf_counter() + share * effort.seconds - spent
    for turn in range(count(effort.rounds) if pairs else 0):
        if (turn or spent) and time.perf_counter() > end:
            return
        shift = turn % len(pairs)
        gc.collect()
        gc.disable()
        try:
            for name, item in pairs[shift:] + pairs[:shift]:
                with around(name):
                    yield 9 * turn % 72, name, item
        finally:
            gc.enable()


def _tracing(candidate: Candidate) -> Callable[[], Any]:
    return partial(jax.jit(candidate.gradient()).trace, *candidate.arguments)


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
