"""The catalogue: whole, well written, and true of its own examples."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from vjpgen.cli import group
from vjpgen.diagnostics import Severity
from vjpgen.diagnostics.catalogue import CATALOGUE, Entry, nearest
from vjpgen.diagnostics.catalogue.entry import Example, files_of

CODES = [
    *(f"VJP00{number}" for number in range(1, 10)),
    *("VJP101", "VJP102", "VJP103"),
    *(f"VJP20{number}" for number in range(1, 8)),
    *("VJP301", "VJP302", "VJP303", "VJP304", "VJP305"),
    *("VJP401", "VJP402", "VJP403"),
    *("VJP901", "VJP902", "VJP903", "VJP904"),
]
WITH_EXAMPLE = [entry for entry in CATALOGUE.values() if entry.bad]
WITHOUT = {"VJP902", "VJP903"}  # what the machine refuses, and what no page can show


def _findings(code: str, example: Example, folder: Path) -> tuple[list[str], int]:
    """Build an example as the only project there is; return the codes and the exit status."""
    files = {"pyproject.toml": '[tool.vjpgen]\nselect = ["VJP"]\n'} | files_of(example)
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    drift = ["--check"] if code == "VJP904" else []
    arguments = ["build", *drift, "--output-format", "json", str(folder)]
    done = CliRunner().invoke(group, arguments, catch_exceptions=False)
    return [item["code"] for item in json.loads(done.stdout)], done.exit_code


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


def test_every_code_has_an_example_or_a_reason():
    assert {code for code, entry in CATALOGUE.items() if not entry.bad} == WITHOUT
    assert {code for code, entry in CATALOGUE.items() if not entry.good} == WITHOUT


@pytest.mark.parametrize("entry", WITH_EXAMPLE, ids=lambda entry: entry.code)
def test_the_bad_example_has_exactly_this_finding(entry: Entry, tmp_path: Path):
    codes, status = _findings(entry.code, entry.bad, tmp_path)
    assert set(codes) == {entry.code}
    assert len(codes) == 1 or entry.code == "VJP403"  # there, both are at fault
    assert status == (1 if entry.severity is Severity.ERROR else 0)


@pytest.mark.parametrize("entry", WITH_EXAMPLE, ids=lambda entry: entry.code)
def test_the_good_example_has_none(entry: Entry, tmp_path: Path):
    assert _findings(entry.code, entry.good, tmp_path) == ([], 0)
    for path in tmp_path.rglob("*.py"):
        ast.parse(path.read_bytes())
    written = [path for path in tmp_path.rglob("*.py") if b"@generated" in path.read_bytes()]
    assert len(written) == sum("# custom-vjp:" in t for t in files_of(entry.good).values())


def test_the_nearest_code():
    assert nearest("vjp30") in {"VJP301", "VJP302", "VJP303", "VJP304", "VJP305"}
    assert nearest("???") is None
