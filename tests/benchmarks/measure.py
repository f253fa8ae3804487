"""Timing of several variants side by side, and what their programs are made of."""

from __future__ import annotations

import collections
import dataclasses
import gc
import re
import statistics
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from typing import Any

import jax

from tests.benchmarks.trial import Trial, tried
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


class Clock:
    """Takes times, by figure and variant."""

    def __init__(self) -> None:
        self.seconds: dict[str, dict[str, list[float]]] = {}

    def timed(self, figure: str, name: str, function: Callable[[], Any], frames: int = 0) -> Any:
        """Call the function and keep the time that it took."""
        spent, value = _timed(function, frames)
        self.keep(figure, name, spent)
        return value

    def keep(self, figure: str, name: str, spent: float) -> None:
        """Keep a time."""
        self.seconds.setdefault(figure, {}).setdefault(name, []).append(spent)

    def compiled(self, name: str, traced: Any, frames: int = 0) -> Any:
        """Lower and compile what was traced."""
        lowered = self.timed(LOWER, name, traced.lower, frames)
        return self.timed(COMPILE, name, lowered.compile, frames)

    def samples(self, names: Collection[str]) -> dict[str, Samples]:
        """The times of these variants."""
        return {
            figure: Samples({name: self.seconds[figure][name] for name in names})
            for figure in FIGURES
            if figure in self.seconds
        }


def measure(workload: Workload, effort: Effort) -> Report:
    """Measure every figure of every variant, in rounds that take the variants in turn."""
    clock = Clock()
    found = tried(workload, clock.compiled if effort.compiled else None, effort.eager)
    if effort.eager:  # at once: what JAX has compiled for it is still there
        _measure_eager(clock, found, effort)
    if effort.compiled:
        _measure_stages(clock, found, effort)
    _measure_traces(clock, found, effort)
    _measure_steps(clock, found, effort)
    return Report(
        workload.title,
        workload.family,
        workload.depth,
        clock.samples(found.candidates),
        {name: _program(program) for name, program in found.compiled.items()},
        found.reasons,
    )


def _measure_eager(clock: Clock, found: Trial, effort: Effort) -> None:
    for frames, name, candidate in _rounds(found.candidates, effort, EAGER):
        clock.timed(EAGER, name, partial(candidate.gradient(), *candidate.arguments), frames)


def _measure_stages(clock: Clock, found: Trial, effort: Effort) -> None:
    able = found.candidates
    tried_for = (clock.seconds[figure][name] for figure in (LOWER, COMPILE) for name in able)
    spent = sum(map(sum, tried_for))
    for frames, name, candidate in _rounds(able, effort, COMPILE, spent):
        clear_caches()  # JAX keeps what it has lowered
        clock.compiled(name, _tracing(candidate)(), frames)


def _measure_traces(clock: Clock, found: Trial, effort: Effort) -> None:
    for frames, name, candidate in _rounds(found.candidates, effort, FIRST):
        clear_caches()  # what a program pays that traces its step once
        clock.timed(FIRST, name, _tracing(candidate), frames)
        clock.timed(AGAIN, name, _tracing(candidate), frames)


def _measure_steps(clock: Clock, found: Trial, effort: Effort) -> None:
    for frames, name, program in _rounds(found.compiled, effort, STEP):
        step = partial(program, *found.candidates[name].arguments)
        clock.keep(STEP, name, min(_timed(step, frames)[0] for _ in range(5)))


def _rounds(
    items: Mapping[str, Any], effort: Effort, figure: str, spent: float = 0.0
) -> Iterator[tuple[int, str, Any]]:
    """Yield all items again and again as `effort` has it, each time beginning with another one.

    `spent` seconds of the figure's time have gone already.

    Garbage is collected between the rounds alone, so that no variant pays for another's. Each
    round has its own stack depth, the first value: see `_timed`.
    """
    count, share = _ROUNDS[figure]
    share = share if effort.compiled else 1.0  # all the time for the one figure
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
