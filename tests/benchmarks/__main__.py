"""Measure vjpgen beside plain autodiff, Flax and rules lifted by hand."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks import command_line
from tests.benchmarks.command_line import Spent, Tree
from tests.benchmarks.measure import Report, measure
from tests.benchmarks.table import (
    as_data,
    as_markdown,
    as_text,
    command_table,
    device_table,
    growth_table,
)
from tests.benchmarks.variants import (
    Workload,
    assert_same_gradients,
    blocks,
    generated_models,
    inputs,
    layers,
    losses,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure everything and print the tables."""
    options = _options(arguments)
    workloads = [*map(layers, options.depths), *map(blocks, options.blocks)]
    reports = {workload: _measured(workload, options.repeat) for workload in workloads}
    rounds = max(1, options.repeat // 2)
    spent = [_spent(tree, rounds, options.codemod) for tree in options.trees]
    if options.json is not None:
        options.json.write_text(json.dumps(as_data(reports, spent), indent=2) + "\n")
    shown = as_markdown if options.markdown else as_text
    tables = [device_table(reports)] if reports else []
    tables += [command_table(spent), growth_table(spent)]
    print(*map(shown, tables), sep="\n\n")


def _spent(tree: Tree, rounds: int, codemod: bool) -> Spent:
    print(f"the command line, {tree.title}", file=sys.stderr)
    return command_line.measure(tree, rounds, codemod)


def _measured(workload: Workload, repeat: int) -> Report:
    print(workload.title, file=sys.stderr)
    params, x = inputs(workload)
    found = losses(workload, generated_models())
    assert_same_gradients(found, params, x)
    return measure(found, params, x, 2 * repeat if workload == layers(1) else repeat)


def options_parser() -> argparse.ArgumentParser:
    """What the command line can be told."""
    parser = argparse.ArgumentParser("python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run: small, measured once")
    parser.add_argument("--depths", type=_numbers, metavar="N,N", help="layers (1,6,24)")
    parser.add_argument("--blocks", type=_numbers, metavar="N,N", help="transformer blocks (1)")
    parser.add_argument("--repeat", type=int, metavar="N", help="rounds (8)")
    parser.add_argument(
        "--trees",
        type=_trees,
        metavar="N/M,N/M",
        help="trees to build: N files, M of them annotated (1000/20,5000/100)",
    )
    parser.add_argument("--codemod", action="store_true", help="measure libcst.tool codemod, too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    parser.add_argument("--markdown", action="store_true", help="print markdown tables")
    return parser


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    options = options_parser()
    quick = options.parse_args(arguments).quick
    options.set_defaults(
        depths=[1, 3] if quick else [1, 6, 24],
        blocks=[] if quick else [1],
        repeat=1 if quick else 8,
        trees=[Tree(40, 2)] if quick else [Tree(1000, 20), Tree(5000, 100)],
    )
    return options.parse_args(arguments)


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


def _trees(text: str) -> list[Tree]:
    return [Tree(*map(int, part.split("/"))) for part in text.split(",") if part]


if __name__ == "__main__":
    main()
