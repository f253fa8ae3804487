"""`vjpgen explain`, and the page that is made by it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from vjpgen.cli import explain
from vjpgen.diagnostics import Severity
from vjpgen.diagnostics.catalogue import CATALOGUE, FAMILIES, Entry, markdown

ROOT = Path(__file__).parents[2]
SEVERAL = Entry(
    "VJP999",
    "several files",
    "They do not fit.",
    bad={"pkg/a.py": "x = 1\n", "pyproject.toml": "[tool.vjpgen]\n"},
    good={"pkg/a.py": "x = 2\n", "README": "text\n"},
    severity=Severity.NOTE,
    default=False,
)


@pytest.mark.parametrize("code", CATALOGUE)
def test_a_code(run: Run, code: str):
    entry = CATALOGUE[code]
    result = run("explain", code.lower())
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{code}: {entry.title} ({entry.severity.value}")
    assert " ".join(entry.explanation.split()) in " ".join(result.stdout.split())


@pytest.mark.parametrize(
    ("args", "codes"),
    [
        (["VJP101", "VJP009"], ["VJP101", "VJP009"]),
        (["VJP10"], ["VJP101", "VJP102", "VJP103"]),
        (["vjp10", "VJP102", "VJP009"], ["VJP101", "VJP102", "VJP103", "VJP009"]),
        (["VJP"], list(CATALOGUE)),
        (["--all"], list(CATALOGUE)),
    ],
)
def test_several_codes(run: Run, args: list[str], codes: list[str]):
    found = json.loads(run("explain", *args, "--output-format", "json").stdout)
    assert [item["code"] for item in found] == codes
    text = run("explain", *args).stdout
    assert [
        line[:6] for line in text.splitlines() if line[:7] in {f"{c}:" for c in CATALOGUE}
    ] == codes


def test_json(run: Run):
    (item,) = json.loads(run("explain", "VJP304", "--output-format", "json").stdout)
    entry = CATALOGUE["VJP304"]
    assert item == {
        "code": "VJP304",
        "title": entry.title,
        "severity": "warning",
        "default": False,
        "explanation": entry.explanation,
        "bad": {"model.py": entry.bad},
        "good": {"model.py": entry.good},
    }


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("VJP110", "did you mean VJP10"),
        ("VPJ303", "did you mean VJP303?"),
        ("nonsense", "`vjpgen explain --all` lists them"),
        ("", "`vjpgen explain --all` lists them"),
        ("V", "no finding has the code 'V'"),
    ],
)
def test_an_unknown_code(run: Run, code: str, said: str):
    result = run("explain", code)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


@pytest.mark.parametrize("args", [[], ["--all", "VJP101"]])
def test_a_code_or_all(run: Run, args: list[str]):
    assert run("explain", *args).exit_code == 2


def test_an_example_of_several_files():
    text = explain._text([SEVERAL])
    assert "\n  pkg/a.py\n\n    x = 1\n" in text
    assert "(note, off by default)" in text
    page = markdown.body(SEVERAL)
    assert "`pkg/a.py`\n\n```python\nx = 2\n```\n" in page
    assert "`pyproject.toml`\n\n```toml\n" in page
    assert "`README`\n\n```\ntext\n```\n" in page
    assert explain._object(SEVERAL)["bad"] == SEVERAL.bad


def test_the_page_is_fresh(run: Run):
    made = run("explain", "--all", "--output-format", "markdown").stdout
    written = (ROOT / "DIAGNOSTICS.md").read_text()
    assert written == made, f"run `{markdown.COMMAND}`"


def test_the_page_has_every_code_once_and_every_link_a_target():
    lines = markdown.page().splitlines()
    assert [line[4:] for line in lines if line.startswith("### ")] == list(CATALOGUE)
    assert all(
        any(line.startswith(f"| [{code}](#{code.lower()}) |") for line in lines)
        for code in CATALOGUE
    )
    assert {code[:4] for code in CATALOGUE} == set(FAMILIES)


def test_color(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in run("explain", "VJP101").stdout
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert run("explain", "VJP101").stdout.startswith("\x1b[1mVJP101")
    assert "\x1b" not in run("explain", "VJP101", "--output-format", "markdown").stdout
