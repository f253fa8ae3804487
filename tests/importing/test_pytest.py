"""The hook in a `conftest.py`, beside pytest's own that rewrites assertions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.importing.conftest import Folder

ROOT = Path(__file__).parents[2]
CONFTEST = """\
import vjpgen

vjpgen.install_import_hook("pkg")
"""
TEST = """\
import jax
from pkg.model import scale


def test_slope():
    assert jax.grad(scale)(1.0) == 6


def test_that_fails():
    slope = float(jax.grad(scale)(1.0))
    assert slope + 1 == 8
"""


@pytest.mark.parametrize("mode", ["prepend", "importlib"])
def test_tests_see_the_rules_and_assertions_are_rewritten(folder: Folder, mode: str):
    folder.write("pkg/__init__.py", "")
    folder.write("pkg/model.py")
    folder.write("tests/conftest.py", CONFTEST)
    folder.write("tests/test_model.py", TEST)
    env = {**os.environ, "PYTHONPATH": f"{folder.path}{os.pathsep}{ROOT}"}
    env["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, f"--import-mode={mode}", "tests"],
        env=env,
        cwd=folder.path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "assert (6.0 + 1) == 8" in done.stdout
