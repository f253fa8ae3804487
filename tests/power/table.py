"""Run the tools on the suites, and write the table."""

from __future__ import annotations

import atexit
import dataclasses
import functools
import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

import flax
import jax

from tests.power.case import Case
from tests.power.right import RIGHT
from tests.power.tools import TOOLS, Verdict, caught, compiled_quickly, verdict
from tests.power.wrong import WRONG

OURS = "check_rule"
VERSIONS = "Made by `python -m tests.power` with jax {jax} and flax {flax}."
LEGEND = """\
Each rule is checked by each tool at its defaults (`check_grads` with `modes=["rev"], order=2`,
finite differences along one random direction), on the same function and arguments. A wrong rule is
caught where the tool says something that it does not say of the right rule of the same function.
The second table counts the right rules that fail all the same, for `check_rule` with any of {seeds}
seed(s); where a tool raises anything but its own complaint, it *crashes*. `check_rule` is told what
a rule claims, for which the others have no words."""

Say = Callable[[str], None]
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Found:
    """What each tool says of each rule.

    Args:
        caught: of wrong rules, whether it finds them.
        right: of right rules, the first that it has against them over the seeds.
        seeds: how many seeds `check_rule` checked right rules with.
    """

    caught: Mapping[str, Mapping[str, bool]]
    right: Mapping[str, Mapping[str, Verdict]]
    seeds: int


def found(seeds: int, say: Say, *, double: bool = False, jobs: int = 1) -> Found:
    """Run everything.

    Args:
        seeds: how many seeds `check_rule` checks right rules with.
        say: is told how far it is.
        double: whether the others are given 64-bit floats.
        jobs: in how many processes.
    """
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, spawned, initializer=_begin) as pool:
        of_wrong = pool.map(functools.partial(_of_wrong, double=double), WRONG)
        of_right = pool.map(functools.partial(_of_right, seeds=seeds, double=double), RIGHT)
        wrong = {name: _told(name, says, say) for name, says in zip(WRONG, of_wrong, strict=True)}
        right = {name: _told(name, says, say) for name, says in zip(RIGHT, of_right, strict=True)}
    return Found(
        {tool: {name: says[tool] for name, says in wrong.items()} for tool in TOOLS},
        {tool: {name: says[tool] for name, says in right.items()} for tool in TOOLS},
        seeds,
    )


def _begin() -> None:
    """Have a process compile quickly for as long as it lives."""
    quickly = compiled_quickly()
    quickly.__enter__()
    atexit.register(quickly.__exit__, None, None, None)


def _of_wrong(name: str, double: bool) -> dict[str, bool]:
    return {tool: caught(tool, WRONG[name], double=double) for tool in TOOLS}


def _of_right(name: str, seeds: int, double: bool) -> dict[str, Verdict]:
    tried = {tool: range(seeds if tool == OURS else 1) for tool in TOOLS}
    return {tool: worst(tool, RIGHT[name], tried[tool], double) for tool in TOOLS}


def _told(name: str, says: T, say: Say) -> T:
    say(name)
    return says


def worst(tool: str, case: Case, seeds: Iterable[int], double: bool = False) -> Verdict:
    """Return the first thing that a tool has against a right rule."""
    for seed in seeds:
        says = verdict(tool, case, seed, double=double)
        if says.says != "passes":
            return dataclasses.replace(says, detail=f"seed {seed}: {says.detail}")
    return Verdict("passes")


def kinds(suite: Mapping[str, Case]) -> dict[str, list[str]]:
    """Return the rules of each kind."""
    gathered: dict[str, list[str]] = {}
    for case in suite.values():
        gathered.setdefault(case.kind, []).append(case.name)
    return gathered


def markdown(results: Found) -> str:
    """Write both tables, with the line of versions and the words that explain them."""
    versions = VERSIONS.format(jax=jax.__version__, flax=flax.__version__)
    legend = LEGEND.format(seeds=results.seeds)

    def catches(tool: str, names: Iterable[str]) -> str:
        return str(sum(results.caught[tool][name] for name in names))

    def alarms(tool: str, names: Iterable[str]) -> str:
        counts = Counter(results.right[tool][name].says for name in names)
        fails, crashes = counts["fails"], counts["crashes"]
        return f"{fails} + {crashes} crash" if crashes else str(fails)

    wrong = _table("wrong rules: caught", kinds(WRONG), catches)
    right = _table("right rules: failed all the same", kinds(RIGHT), alarms)
    return "\n\n".join((versions, legend, wrong, right))


def _table(
    title: str, rows: Mapping[str, list[str]], cell: Callable[[str, Iterable[str]], str]
) -> str:
    def line(first: str, names: list[str]) -> str:
        return _row([first, str(len(names)), *(cell(tool, names) for tool in TOOLS)])

    every = [name for names in rows.values() for name in names]
    head = [title, "rules", *TOOLS.values()]
    lines = [_row(head), _row(["---"] * len(head))]
    lines += [line(kind, names) for kind, names in rows.items()]
    return "\n".join([*lines, line("**all**", every)])


def _row(parts: Iterable[str]) -> str:
    return f"| {' | '.join(parts)} |"
