"""Measure vjpgen beside plain autodiff, Flax and rules lifted by hand."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from tests.benchmarks import command_line, imports, plot, readme
from tests.benchmarks.command_line import Tree
from tests.benchmarks.goals import goals_table
from tests.benchmarks.measure import Effort, measure
from tests.benchmarks.results import Results, made_with
from tests.benchmarks.table import (
    as_markdown,
    as_text,
    command_table,
    device_table,
    footnotes,
    growth_table,
    import_table,
)
from tests.benchmarks.variants import variants
from tests.benchmarks.workloads import (
    EQUAL,
    Workload,
    differing,
    equal,
    resnet,
    rnn,
    transformer,
)
from tests.parts import README

# Above so many parts only tracing is measured: the rest takes minutes a round.
DEEP = 200
_WORKLOADS: dict[str, Callable[[int], Workload]] = {
    "depths": equal,
    "differing": differing,
    "transformer": transformer,
    "resnet": resnet,
    "rnn": rnn,
}
_SMALL: dict[str, Callable[[int], Workload]] = {
    "depths": lambda depth: equal(depth, width=16),
    "differing": lambda depth: differing(depth, width=16),
    "transformer": lambda blocks: transformer(blocks, length=4, width=8),
    "resnet": lambda blocks: resnet(blocks, size=4, width=4),
    "rnn": lambda steps: rnn(steps, width=8),
}
_FULL: dict[str, Any] = {
    "depths": [1, 6, 24, 96, 384],
    "differing": [6, 24, 96],
    "transformer": [12],
    "resnet": [9],
    "rnn": [64],
    "repeat": 8,
    "seconds": 60.0,
    "trees": [Tree(1000, 20), Tree(5000, 100)],
}
_QUICK: dict[str, Any] = {
    "depths": [2],
    "differing": [2],
    "transformer": [1],
    "resnet": [1],
    "rnn": [3],
    "repeat": 1,
    "seconds": 1.0,
    "trees": [Tree(40, 2)],
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure everything, print the tables, and write what was asked for."""
    options = _options(arguments)
    results = _read(options.read) if options.read else _measured(options)
    if options.json is not None:
        options.json.write_text(results.to_json())
    if options.plot is not None:
        plot.write(results, options.plot)
    if options.write_readme:
        text = README.read_text()
        README.write_text(readme.written(text, results))
    print(_shown(results, as_markdown if options.markdown else as_text))


def _read(file: Path) -> Results:
    return Results.from_json(file.read_text())


def _measured(options: argparse.Namespace) -> Results:
    if options.quick:  # programs run once
        jax.config.update("jax_disable_most_optimizations", True)
    made = _SMALL if options.quick else _WORKLOADS
    workloads = [make(size) for name, make in made.items() for size in getattr(options, name)]
    commands = max(1, options.repeat // 2)
    return Results(
        made_with(),
        variants(),
        [_said(each.title, measure, each, _effort(each, options)) for each in workloads],
        _said("imports", imports.measure, options.repeat) if options.trees else None,
        [
            _said(tree.title, command_line.measure, tree, commands, options.codemod)
            for tree in options.trees
        ],
    )


def _effort(workload: Workload, options: argparse.Namespace) -> Effort:
    size = len(workload.parts)
    rounds = 2 * options.repeat if size == 1 else options.repeat
    shallow = size <= DEEP
    eager = shallow and (not options.quick or workload.family == EQUAL)
    return Effort(rounds, options.seconds, compiled=shallow, eager=eager)


def _said(title: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call the function, and say on the error stream what is measured and how long it took."""
    start = time.perf_counter()
    print(title, end=" ...", file=sys.stderr, flush=True)
    found = function(*arguments)
    print(f" {time.perf_counter() - start:.0f} s", file=sys.stderr)
    return found


def _shown(results: Results, shown: Callable[[list[list[str]]], str]) -> str:
    parts = [results.made_with]
    if results.reports:
        parts.append(shown(device_table(results)))
        parts.append("\n".join(footnotes(results)))
    if results.imports:
        parts.append(shown(import_table(results.imports)))
    if results.spent:
        parts += [shown(command_table(results.spent)), shown(growth_table(results.spent))]
    return "\n\n".join(part for part in [*parts, shown(goals_table(results))] if part)


def options_parser() -> argparse.ArgumentParser:
    """What the command line can be told."""
    parser = argparse.ArgumentParser("python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run: small, measured once")
    for name, what in [
        ("depths", "equal layers"),
        ("differing", "layers that differ in a field"),
        ("transformer", "transformer blocks"),
        ("resnet", "residual blocks with BatchNorm"),
        ("rnn", "steps of a scanned RNN"),
    ]:
        default = ",".join(map(str, _FULL[name]))
        parser.add_argument(f"--{name}", type=_numbers, metavar="N,N", help=f"{what} ({default})")
    parser.add_argument("--repeat", type=int, metavar="N", help="rounds at most (8)")
    parser.add_argument(
        "--seconds", type=float, metavar="S", help="rounds for so long, a workload (60)"
    )
    parser.add_argument(
        "--trees",
        type=_trees,
        metavar="N/M,N/M",
        help="trees to build: N files, M of them annotated (1000/20,5000/100); '' leaves out "
        "imports, too",
    )
    parser.add_argument("--codemod", action="store_true", help="measure libcst.tool codemod, too")
    parser.add_argument("--markdown", action="store_true", help="print markdown tables")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    parser.add_argument(
        "--read", type=Path, metavar="FILE", help="measure nothing: take what --json wrote"
    )
    parser.add_argument(
        "--plot", type=Path, metavar="FILE.svg", help="draw trace time against depth"
    )
    parser.add_argument("--write-readme", action="store_true", help="put the tables into README.md")
    return parser


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = options_parser()
    parser.set_defaults(**(_QUICK if parser.parse_args(arguments).quick else _FULL))
    return parser.parse_args(arguments)


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


def _trees(text: str) -> list[Tree]:
    return [Tree(*map(int, part.split("/"))) for part in text.split(",") if part]


if __name__ == "__main__":
    main()
