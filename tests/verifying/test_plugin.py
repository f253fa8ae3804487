"""`pytest --vjpgen`: rules as tests."""

from __future__ import annotations

import argparse
import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.verifying.conftest import RULES, Make, rule, run
from vjpgen.verifying.plugin import pytest_addoption

CONFIG = """\
[tool.vjpgen]
paths = ["src"]
exclude = ["src/pkg/excluded.py"]

[tool.pytest.ini_options]
testpaths = ["tests"]
strict_markers = true
filterwarnings = ["error"]
"""
# what runs in the process of pytest is an error
APART = 'import sys\n\nassert "pytest" not in sys.modules\n'
LOUD = "def loud():\n    print('from the example')\n    raise RuntimeError('no data')\n\n\n"
ANNOTATED = """\
def bwd(vjp_fn, y_t):
    return vjp_fn(y_t)


# custom-vjp: bwd=bwd
def f(x):
    return x


"""
FILES = {
    "pyproject.toml": CONFIG,
    "src/pkg/__init__.py": APART,
    "src/pkg/model.py": APART
    + RULES
    + LOUD
    + rule("right", example="example", exact="x")
    + rule("wrong", example="example", exact="x", bwd="twice")
    + rule("broken", example="loud")
    + rule("without"),
    "src/pkg/excluded.py": RULES + rule("f"),
    "src/pkg/plain.py": APART,
    "src/pkg/test_other.py": "raise SystemExit\n",
    "tests/test_own.py": "def test_own():\n    pass\n",
    "tests/test_annotated.py": ANNOTATED + "def test_too():\n    pass\n",
}
IDS = [f"src/pkg/model.py::{name}" for name in ("right", "wrong", "broken", "without")]
OWN = ["tests/test_annotated.py::test_too", "tests/test_own.py::test_own"]
PYTEST = ("-m", "pytest", "-q", "-p", "vjpgen.verifying.plugin")


@pytest.fixture(scope="module")
def project(make: Make) -> Path:
    return make(FILES)


def collected(project: Path, *arguments: str) -> list[str]:
    """Return the ids of what pytest collects."""
    _, out, _ = run(*PYTEST, "--collect-only", *arguments, cwd=project)
    return [line for line in out.splitlines() if "::" in line]


def test_without_the_option_nothing_changes_and_nothing_is_imported(project: Path):
    assert collected(project) == OWN
    code = (
        "import pytest, sys; before = set(sys.modules); import vjpgen.verifying.plugin; "
        "print(*sorted(set(sys.modules) - before))"
    )
    _, out, _ = run("-c", code, cwd=project)
    assert out.split() == ["vjpgen", "vjpgen.verifying", "vjpgen.verifying.plugin"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), [*OWN, *IDS]),
        (("-m", "vjpgen"), IDS),
        (("-k", "wrong or own"), [OWN[1], IDS[1]]),
        (("tests",), ["tests/test_annotated.py::f", *OWN]),
        (("src/pkg/model.py",), IDS),
        ((IDS[2],), [IDS[2]]),
        (("src/pkg/excluded.py",), ["src/pkg/excluded.py::f"]),
    ],
)
def test_what_is_collected(project: Path, arguments: tuple[str, ...], expected: list[str]):
    assert sorted(collected(project, "--vjpgen", *arguments)) == sorted(expected)


def test_rules_run_as_tests_in_several_processes(project: Path):
    options = ("-p", "xdist", "-n", "2", "--vjpgen", "-rs", "--junitxml=report.xml")
    status, out, err = run(*PYTEST, *options, cwd=project)
    assert status == 1, err
    assert "2 failed, 3 passed, 1 skipped" in out
    assert "error[gradient]: the gradient of `x` is wrong" in out
    assert f"   = repeat: vjpgen verify {Path('src/pkg/model.py')} -k wrong --seed 0" in out
    assert "error: the example of `broken` failed" in out
    assert "RuntimeError: no data" in out
    assert "from the example" in out
    assert "rules that were not verified" in out
    assert "the rule of `without` has no example: write a function" in out
    assert "Traceback" not in out
    cases = {case.get("name"): case for case in ET.parse(project / "report.xml").iter("testcase")}
    assert cases["wrong"].find("failure") is not None
    assert cases["without"].find("skipped") is not None
    assert [each.get("value") for each in cases["right"].iter("property")] == ["verified"]
    options = ("--vjpgen", "--lf", "-x", "--vjpgen-require-examples")
    status, out, _ = run(*PYTEST, *options, "-k", "broken or own", cwd=project)
    assert (status, "1 failed" in out, "own" in out) == (1, True, False), out
    status, out, _ = run(*PYTEST, *options[:1], *options[3:], IDS[3], cwd=project)
    assert status == 1
    assert "failed: the rule of `without` has no example" in out


def test_a_source_with_errors_is_an_error_of_collection(make: Make):
    files = {"model.py": RULES + rule("f", bwd="nothing"), "test_a.py": "def test_a(): pass\n"}
    status, out, _ = run(*PYTEST, "--vjpgen", cwd=make(files))
    assert status == 2
    assert "ERROR collecting model.py" in out
    assert "error[VJP101]" in out


def test_a_wrong_configuration(make: Make):
    folder = make({"pyproject.toml": "[tool.vjpgen]\npahts = []\n"})
    status, _, err = run(*PYTEST, "--vjpgen", cwd=folder)
    assert (status, "did you mean `paths`" in err) == (4, True)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--vjpgen-directions=0", "0 is not 1 or more"),
        ("--vjpgen-seed=-1", "-1 is not from 0 to 4294967295"),
        ("--vjpgen-time-limit=0", "0 is not above 0"),
    ],
)
def test_numbers_that_are_out_of_range(option: str, said: str):
    parser = argparse.ArgumentParser(exit_on_error=False)
    group = SimpleNamespace(addoption=parser.add_argument)
    pytest_addoption(cast(Any, SimpleNamespace(getgroup=lambda *_: group)))
    with pytest.raises(argparse.ArgumentError, match=said):
        parser.parse_args([option])
