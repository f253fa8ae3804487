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

from tests.benchmarks.variants import (
    PLAIN,
    Candidate,
    Field,
    around,
    assert_same,
    clear_caches,
    field,
)
from tests.benchmarks.workloads import Workload

FIRST, AGAIN, LOWER, COMPILE, STEP, EAGER = FIGURES = (
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
        slow: whether to measure what is slow: lower, compile, step and eager gradient.
    """

    rounds: int
    seconds: float
    slow: bool = True


def measure(workload: Workload, effort: Effort) -> Report:
    """Measure every figure of every variant, in rounds that take the variants in turn."""
    found = field(workload)
    seconds: dict[str, dict[str, list[float]]] = collections.defaultdict(
        lambda: collections.defaultdict(list)
    )
    for figure, name, spent in _traces(found, effort, 0.4):
        seconds[figure][name].append(spent)
    compiled: dict[str, Any] = {}
    if effort.slow:
        for figure, name, spent in _stages(found, effort, 0.3, compiled):
            seconds[figure][name].append(spent)
        for name, spent in _steps(found, compiled, effort, 0.1):
            seconds[STEP][name].append(spent)
        for name, spent in _eager(found, effort, 0.2):
            seconds[EAGER][name].append(spent)
    return Report(
        workload.title,
        workload.family,
        workload.depth,
        {figure: Samples(dict(values)) for figure, values in seconds.items()},
        {name: _program(program) for name, program in compiled.items()},
        found.reasons,
    )


def _traces(found: Field, effort: Effort, share: float) -> Iterator[tuple[str, str, float]]:
    """Trace the gradient as a program does that traces its step once, and once more."""
    for frames, name, candidate in _rounds(found.candidates, effort.rounds, share * effort.seconds):
        clear_caches()
        yield FIRST, name, _timed(_tracing(candidate), frames)[0]
        yield AGAIN, name, _timed(_tracing(candidate), frames)[0]


def _stages(
    found: Field, effort: Effort, share: float, compiled: dict[str, Any]
) -> Iterator[tuple[str, str, float]]:
    """Lower and compile the gradient; leave the programs in `compiled`, and compare theirs."""
    for frames, name, candidate in _rounds(found.candidates, effort.rounds, share * effort.seconds):
        clear_caches()  # JAX keeps what it has lowered
        traced = _tracing(candidate)()
        spent, lowered = _timed(traced.lower, frames)
        yield LOWER, name, spent
        spent, compiled[name] = _timed(lowered.compile, frames)
        yield COMPILE, name, spent
    given = {
        name: found.candidates[name].comparable(program(*found.candidates[name].arguments))
        for name, program in compiled.items()
    }
    for gradient in given.values():
        assert_same(gradient, given[PLAIN])


def _steps(
    found: Field, compiled: Mapping[str, Any], effort: Effort, share: float
) -> Iterator[tuple[str, float]]:
    for frames, name, program in _rounds(compiled, 10 * effort.rounds, share * effort.seconds):
        step = partial(program, *found.candidates[name].arguments)
        yield name, min(_timed(step, frames)[0] for _ in range(5))


def _eager(found: Field, effort: Effort, share: float) -> Iterator[tuple[str, float]]:
    for name, candidate in found.candidates.items():
        with around(name):  # what JAX compiles for it is not counted
            jax.block_until_ready(candidate.gradient()(*candidate.arguments))
    for frames, name, candidate in _rounds(found.candidates, effort.rounds, share * effort.seconds):
        yield name, _timed(partial(candidate.gradient(), *candidate.arguments), frames)[0]


def _rounds(items: Mapping[str, Any], count: int, seconds: float) -> Iterator[tuple[int, str, Any]]:
    """Yield all items up to `count` times, each time beginning with another one.

    Garbage is collected between the rounds alone, so that no variant pays for another's. Each
    round has its own stack depth, the first value: see `_timed`.
    """
    pairs = list(items.items())
    end = time.perf_counter() + seconds
    for turn in range(count):
        if turn and time.perf_counter() > end:
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
