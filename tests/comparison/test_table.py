"""The README's table of the four tools is what running them gives."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.comparison.__main__ import PART
from tests.comparison.loading import situations
from tests.comparison.table import ROOT, Cells, from_json, markdown, versions
from tests.parts import README, body

PLAIN = situations()
TEXT = README.read_text()
TABLE = body(TEXT, PART)


def rows(text: str) -> dict[str, list[str]]:
    """The cells of each situation, by its title."""
    titles = {situation.title() for situation in PLAIN.values()}
    lines = [re.split(r"(?<!\\) \| ", line[2:-2]) for line in text.splitlines() if line[:2] == "| "]
    return {first: cells for first, *cells in lines if first in titles}


@pytest.fixture(scope="module")
def found() -> Cells:
    """What the programs give, in a process of their own."""
    command = [sys.executable, "-m", "tests.comparison", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return from_json(done.stdout)


def test_the_table_is_what_the_programs_give(found):
    """Other versions of jax and flax may do better or worse: then vjpgen's column alone counts."""
    for name, row in found.items():
        expected, vjpgen = PLAIN[name].vjpgen_says, row["vjpgen"]
        assert vjpgen.good if expected is None else vjpgen.text == expected, (name, vjpgen)
        shown = rows(TABLE)[PLAIN[name].title()]
        assert shown[-1] == vjpgen.text, f"{name}; run: python -m tests.comparison --write"
    assert list(rows(TABLE)) == list(rows(markdown(found)))
    if versions() in TEXT:
        assert markdown(found) == TABLE, "run: python -m tests.comparison --write"
