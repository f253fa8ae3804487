"""Folders of rules to verify, and a way to run the command line as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RULES = """\
import os
import sys

import jax
import jax.numpy as jnp


def fwd(x):
    return jnp.sin(x), x


def bwd(x, y_t):
    return (jnp.cos(x) * y_t,)


def twice(x, y_t):
    return (2 * jnp.cos(x) * y_t,)


def example(key):
    return (jax.random.normal(key, (3,)),)


"""


def rule(name: str, **keys: str) -> str:
    """Return an annotated sine."""
    given = {"fwd": "fwd", "bwd": "bwd", **keys}
    text = ", ".join(f"{key}={value}" for key, value in given.items())
    return f"# custom-vjp: {text}\ndef {name}(x):\n    return jnp.sin(x)\n\n\n"


def start(*command: str, cwd: Path) -> subprocess.Popen[str]:
    """Start Python with this repository's vjpgen."""
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )


def run(*command: str, cwd: Path) -> tuple[int, str, str]:
    """Run Python with this repository's vjpgen; return its status and output."""
    process = start(*command, cwd=cwd)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


Make = Callable[[dict[str, str]], Path]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Make a project of files by their names and texts."""

    def call(files: dict[str, str]) -> Path:
        folder = tmp_path_factory.mktemp("project")
        for name, text in {"pyproject.toml": "", **files}.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return folder

    return call
