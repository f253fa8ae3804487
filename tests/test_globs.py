"""Patterns of `per-file-ignores`, as ruff reads them."""

from __future__ import annotations

import json
import subprocess
import sysconfig
from pathlib import Path

import pytest

from vjpgen.globs import fits

CASES = [
    ("model.py", "model.py a/model.py", "a/my_model.py model.pyi"),
    ("*.py", "a.py a/b.py", "a.pyx"),
    ("./tests/*", "tests/a.py tests/a/b.py", "tests.py a/tests/b.py"),
    ("tests/*", "tests/a.py tests/a/b.py", "tests.py a/tests/b.py"),
    ("tests/*.py", "tests/a.py tests/a/b.py", "a/tests/b.py"),
    ("**/tests/**", "tests/a.py a/b/tests/c/d.py", "tests.py"),
    ("**/*.py", "a.py a/b.py", "a"),
    ("a/**/b.py", "a/b.py a/x/b.py a/x/y/b.py", "a/xb.py b.py"),
    ("{a,b}/*.py", "a/x.py b/x.py", "c/x.py"),
    ("x{a,b{1,2}}.py", "xa.py xb1.py xb2.py", "xb.py"),
    ("m?.py", "m1.py a/mm.py", "m.py"),
    ("m[0-9].py", "m1.py", "mx.py"),
    ("m[!0-9].py", "mx.py", "m1.py"),
    (r"a\*.py", "a*.py", "ab.py"),
    ("a,b.py", "a,b.py", "a.py"),
    ("a.c", "a.c", "abc"),
    ("tests", "tests a/tests", "tests/a.py"),
    ("[.py", "[.py", "x.py"),
    ("a}.py", "a}.py", "a.py"),
]


@pytest.mark.parametrize(("pattern", "fitting", "others"), CASES)
def test_fits(pattern: str, fitting: str, others: str):
    assert all(fits(pattern, name) for name in fitting.split())
    assert not any(fits(pattern, name) for name in others.split())


RUFFS = [case for case in CASES if case[0] not in ("[.py", "a}.py")]  # errors, to ruff


@pytest.mark.parametrize(("pattern", "fitting", "others"), RUFFS)
def test_ruff_agrees(pattern: str, fitting: str, others: str, tmp_path: Path):
    """Ask ruff for a finding in each file, but in those that fit the pattern."""
    names = [name for name in (fitting + " " + others).split() if name.endswith(".py")]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("import os\n")
    ignores = f"[lint.per-file-ignores]\n'{pattern}' = ['F401']\n"
    (tmp_path / "ruff.toml").write_text("lint.select = ['F401']\n" + ignores)
    ruff = Path(sysconfig.get_path("scripts")) / "ruff"
    command = [ruff, "check", "--no-cache", "--exit-zero", "--output-format", "json", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    root = tmp_path.resolve()
    found = {
        Path(item["filename"]).relative_to(root).as_posix() for item in json.loads(done.stdout)
    }
    assert found == {name for name in names if not fits(pattern, name)}


@pytest.mark.parametrize("pattern", ["[]", "[[]", "[z-a].py", "{", "}{", "**", "", "\\", "[\\]"])
def test_a_strange_pattern_is_no_fault(pattern: str):
    assert fits(pattern, "a/b.py") in (True, False)
