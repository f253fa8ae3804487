"""Compare the four tools: `python -m tests.comparison` prints the table of the README."""

from __future__ import annotations

import argparse

import jax

from tests.comparison.loading import situations
from tests.comparison.situation import TOOLS
from tests.comparison.table import cells, markdown, to_json
from tests.parts import README, replaced

PART = "comparison"


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.comparison", description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    parser.add_argument("--only", action="append", default=[], choices=list(situations()))
    parser.add_argument("--why", action="store_true", help="say what each cell comes from")
    parser.add_argument("--json", action="store_true", help="print the cells as JSON")
    return parser.parse_args()


def main() -> None:
    """Run the programs and print, or write, what came of them."""
    given = options()
    jax.config.update("jax_disable_most_optimizations", True)  # programs run once
    found = cells(given.only)
    if given.json:
        print(to_json(found))
    elif given.write:
        README.write_text(replaced(README.read_text(), PART, markdown(found)))
    elif given.why:
        for name, row in found.items():
            for tool in TOOLS:
                print(f"{name}, {tool}: {row[tool].text}\n{row[tool].detail}\n")
    else:
        print(markdown(found))


if __name__ == "__main__":
    main()
