"""Measure what checks of gradients find: `python -m tests.power` prints the table of the README."""

from __future__ import annotations

import argparse
import sys
import time

from tests.parts import README, replaced
from tests.power.right import RIGHT
from tests.power.table import OURS, Found, found, markdown, worst
from tests.power.tools import TOOLS, compiled_quickly, verdict
from tests.power.wrong import WRONG

PART = "power"


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.power", description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    parser.add_argument("--seeds", type=int, default=2, help="for each right rule; default 2")
    parser.add_argument("--double", action="store_true", help="give the others 64-bit floats")
    parser.add_argument("--jobs", type=int, default=1, help="in so many processes; default 1")
    parser.add_argument("--only", action="append", default=[], choices=[*WRONG, *RIGHT])
    parser.add_argument("--why", action="store_true", help="say what check_rule says of each rule")
    return parser.parse_args()


def main() -> None:
    """Run the suites and print, or write, what came of them."""
    given = options()
    if given.why or given.only:
        with compiled_quickly():
            _explain(given.only or [*WRONG, *RIGHT], given.seeds)
    else:
        _run(given)


def _run(given: argparse.Namespace) -> None:
    started = time.perf_counter()
    say = lambda name: print(name, file=sys.stderr, flush=True)  # noqa: E731
    results = found(given.seeds, say, double=given.double, jobs=given.jobs)
    print(f"{time.perf_counter() - started:.0f} s", file=sys.stderr)
    if given.write:
        README.write_text(replaced(README.read_text(), PART, markdown(results)))
    else:
        print(markdown(results))
        print(_missed(results))


def _explain(names: list[str], seeds: int) -> None:
    for name in names:
        started = time.process_time()
        case = WRONG.get(name) or RIGHT[name]
        says = verdict(OURS, case) if name in WRONG else worst(OURS, case, range(seeds))
        seconds = time.process_time() - started
        print(f"\n{name} ({case.about}): {says.says}, {seconds:.1f} s\n{says.detail}", flush=True)


def _missed(results: Found) -> str:
    """Name what each tool misses, and what it fails."""
    lines = []
    for tool in TOOLS:
        missed = [name for name, good in results.caught[tool].items() if not good]
        failed = [name for name, says in results.right[tool].items() if says.says != "passes"]
        lines.append(f"\n{tool} misses {', '.join(missed) or 'none'}")
        lines.append(f"{tool} fails {', '.join(failed) or 'none'}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
