"""The README's table of the four tools is what running them gives."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.comparison.__main__ import PART, README
from tests.comparison.loading import situations
from tests.comparison.table import ROOT, from_json, markdown, versions

PLAIN = situations()
TEXT = README.read_text()


def table() -> str:
    """The README's table with its line of versions."""
    found = PART.search(TEXT)
    assert found is not None
    return found[0].removeprefix(found[1]).removesuffix(found[2]).strip()


def rows(text: str) -> dict[str, list[str]]:
    """The cells of each situation, by its title."""
    titles = {situation.title() for situation in PLAIN.values()}
    lines = [re.split(r"(?<!\\) \| ", line[2:-2]) for line in text.splitlines() if line[:2] == "| "]
    return {first: cells for first, *cells in lines if first in titles}


def vjpgen_cell(name: str, text: str) -> None:
    """Assert that vjpgen's cell is right, or names what is wrong, or says what is expected."""
    expected = PLAIN[name].vjpgen_says
    good = text == "right" or text.startswith("names it")
    assert good if expected is None else text == expected, text
    assert rows(table())[PLAIN[name].title()][-1] == text, "run: python -m tests.comparison --write"


@pytest.mark.parametrize("name", [name for name, each in PLAIN.items() if not each.vjp3])
def test_what_vjpgen_does(name):
    found = situations(lifted=True)[name].run("vjpgen")
    print(found.detail)
    vjpgen_cell(name, found.text)


def test_the_table_is_what_the_programs_give():
    """Other versions of jax and flax may do better or worse: then vjpgen's column alone counts."""
    command = [sys.executable, "-m", "tests.comparison", "--json"]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=True
    )
    found = from_json(done.stdout)
    for name, row in found.items():
        vjpgen_cell(name, row["vjpgen"].text)
    assert list(rows(table())) == list(rows(markdown(found)))
    if versions() in TEXT:
        assert markdown(found) == table(), "run: python -m tests.comparison --write"
