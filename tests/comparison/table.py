"""Run the programs, and write the table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import flax
import jax

from tests.comparison.loading import GROUPS, situations
from tests.comparison.outcomes import Outcome
from tests.comparison.situation import HEADINGS, TOOLS

# By the class's name of each situation: the outcome of each tool.
Cells = dict[str, dict[str, Outcome]]

ROOT = Path(__file__).parents[2]
RULES_3 = "JAX_CUSTOM_VJP3"
VERSIONS = "Made by `python -m tests.comparison` with jax {jax} and flax {flax}."
LEGEND = """\
Each situation is a small program, written with each of the four. What it gives is compared with
what is right: plain autodiff, times two where the rule doubles. With `jax.custom_vjp` the variables
of a module are explicit arguments, as one would write it without Flax's lifting; with
`flax.nnx.custom_vjp` rules are as in its documentation, and with `graph_updates=False` where those
fail. *names it*: an error or a warning says what is wrong, where that is right; *refused*:
`vjpgen build` says so; *not available*: there is no way to write it."""


def versions() -> str:
    """Return the line that says what the table was made with."""
    return VERSIONS.format(jax=jax.__version__, flax=flax.__version__)


def cells(names: Iterable[str] = ()) -> Cells:
    """Run every program, or those of the situations `names`."""
    plain, lifted = situations(), situations(lifted=True)
    chosen = list(names) or list(plain)
    here = os.environ.get(RULES_3) == "1"
    apart = [name for name in chosen if plain[name].vjp3 and not here]
    found = _apart(apart) if apart else {}
    for name in chosen:
        if name not in found:
            both = {tool: lifted if tool == "vjpgen" else plain for tool in TOOLS}
            found[name] = {tool: both[tool][name].run(tool) for tool in TOOLS}
    return {name: found[name] for name in chosen}


def _apart(names: list[str]) -> Cells:
    """Run programs in a process of their own, with JAX's other rule machinery."""
    command = [sys.executable, "-m", "tests.comparison", "--json"]
    command += [word for name in names for word in ("--only", name)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, RULES_3: "1"}, capture_output=True, text=True
    )
    if done.returncode:  # it crashed: all of its cells say so
        crash = Outcome("ends the process", done.stderr)
        return {name: dict.fromkeys(TOOLS, crash) for name in names}
    return from_json(done.stdout)


def to_json(found: Cells) -> str:
    """Write cells for another process."""
    plain = {n: {t: [o.text, o.detail] for t, o in row.items()} for n, row in found.items()}
    return json.dumps(plain)


def from_json(text: str) -> Cells:
    """Read what `to_json` wrote."""
    return {n: {t: Outcome(*o) for t, o in row.items()} for n, row in json.loads(text).items()}


def markdown(found: Cells) -> str:
    """Write the table, with the line of versions and the words that explain it."""
    classes = situations()
    head = ["situation", *HEADINGS.values()]
    lines = [_row(head), _row(["---"] * len(head))]
    group = ""
    for name, row in found.items():
        words = GROUPS[classes[name].__module__.rpartition(".")[2]]
        if words != group:
            group = words
            lines.append(_row([f"**{group}**", *[""] * len(TOOLS)]))
        lines.append(_row([classes[name].title(), *[row[tool].text for tool in TOOLS]]))
    lines.append(_row([f"**right or named, of {len(found)}**", *map(_count, columns(found))]))
    return "\n".join([versions(), "", LEGEND, "", *lines])


def columns(found: Cells) -> list[list[Outcome]]:
    """Return the outcomes of each tool."""
    return [[row[tool] for row in found.values()] for tool in TOOLS]


def _count(outcomes: list[Outcome]) -> str:
    none = sum(outcome.text == "not available" for outcome in outcomes)
    return f"{sum(outcome.good for outcome in outcomes)} ({none} not available)"


def _row(parts: Iterable[str]) -> str:
    return f"| {' | '.join(parts)} |".replace("|  |", "| |").replace("|  |", "| |")
