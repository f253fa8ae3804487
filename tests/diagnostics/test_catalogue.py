"""The catalogue: whole, well written, and true of its own examples."""

from __future__ import annotations

import ast
import re

import pytest

from vjpgen.building.layout import Place
from vjpgen.building.pipeline import compile_job
from vjpgen.building.plan import Job
from vjpgen.building.projects import Project
from vjpgen.building.walk import Found
from vjpgen.compiler import Options, Siblings
from vjpgen.config import Config
from vjpgen.diagnostics import Severity
from vjpgen.diagnostics.catalogue import CATALOGUE, Entry, nearest
from vjpgen.diagnostics.selection import Selection

CODES = [
    *(f"VJP00{number}" for number in range(1, 10)),
    *("VJP101", "VJP102", "VJP103"),
    *(f"VJP20{number}" for number in range(1, 8)),
    *("VJP301", "VJP302", "VJP303", "VJP304"),
    *("VJP401", "VJP402", "VJP403"),
    *("VJP901", "VJP902", "VJP903", "VJP904"),
]
DETECTED = [entry for code, entry in CATALOGUE.items() if code[3] in "0123"]
WITH_EXAMPLE = [entry for entry in CATALOGUE.values() if entry.bad]


def _compile(text: str) -> tuple[list[str], bytes | None]:
    """Compile as a build does, suppressions included; return the codes and the output."""
    config = Config(selection=Selection(select=("VJP",)))
    file = Found(
        "/example/model.py", "model.py", "/example", Project("/example", "/example", config)
    )
    options = Options("model.py")
    done = compile_job(Job(file, text.encode(), Place("", ""), "", options, Siblings()))
    return [item.code for item in done.diagnostics], done.output


def test_it_is_whole():
    assert list(CATALOGUE) == CODES
    assert all(entry.code == code for code, entry in CATALOGUE.items())


def test_severities_are_those_of_the_contract():
    by_severity = {
        severity: {code for code, entry in CATALOGUE.items() if entry.severity is severity}
        for severity in Severity
    }
    assert by_severity[Severity.WARNING] == {"VJP004", "VJP009", "VJP302", "VJP304"}
    assert by_severity[Severity.NOTE] == {"VJP402"}
    off = {code for code, entry in CATALOGUE.items() if not entry.default}
    assert off == {"VJP304", "VJP402"}


@pytest.mark.parametrize("entry", CATALOGUE.values(), ids=CATALOGUE)
def test_every_text_is_written(entry: Entry):
    assert entry.title
    assert not entry.title.endswith(".")
    assert re.match(r"[A-Z`].*\.$", entry.explanation)
    assert "  " not in entry.explanation


@pytest.mark.parametrize("entry", DETECTED, ids=lambda entry: entry.code)
def test_the_bad_example_has_exactly_this_finding(entry: Entry):
    codes, output = _compile(entry.bad)
    assert codes == [entry.code]
    if entry.severity is Severity.ERROR:
        assert output is None


@pytest.mark.parametrize("entry", WITH_EXAMPLE, ids=lambda entry: entry.code)
def test_the_good_example_has_none(entry: Entry):
    codes, output = _compile(entry.good)
    assert codes == []
    assert output is not None
    ast.parse(output)


def test_the_nearest_code():
    assert nearest("vjp30") in {"VJP301", "VJP302", "VJP303", "VJP304"}
    assert nearest("???") is None
