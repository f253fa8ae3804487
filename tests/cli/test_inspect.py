"""`vjpgen inspect`: what is asked for, what is said, and the exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import BAD, Folder, Run

ROOT = Path(__file__).parents[2]
MODEL = """\
import flax.linen as nn
import jax.numpy as jnp

print("importing")


def relu_fwd(x):
    return relu(x), x > 0


def relu_bwd(mask, y_t):
    return (jnp.where(mask, y_t, 0),)


def relu_example():
    return [(jnp.ones(4),), (jnp.ones(8),)]


# custom-vjp: fwd=relu_fwd, bwd=relu_bwd, example=relu_example
def relu(x):
    return x * (x > 0)


def bwd(vjp_fn, y_t):
    return vjp_fn(y_t)


class Net(nn.Module):
    # custom-vjp: bwd=bwd
    def first(self, x):
        return x

    # custom-vjp: bwd=bwd, example=relu_example
    def second(self, x):
        return x


class One(nn.Module):
    # custom-vjp: bwd=bwd, example=make
    @nn.compact
    def __call__(self, x):
        return self.helper(nn.Dense(2)(x))

    def helper(self, x):
        return x

    @classmethod
    def make(cls):
        return cls(), jnp.ones((1, 3))


class Heir(One):
    pass
"""
# the rule, in a file of its own
RULE = "import jax.numpy as jnp\n\n\ndef bwd(vjp_fn, y_t):\n    return vjp_fn(y_t)\n\n\n"


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget the modules that a test imports."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("model", "pkg") or name.startswith("vjpgen_loaded_"):
            del sys.modules[name]


def test_it_says_what_a_rule_keeps(folder: Folder, run: Run):
    folder.write("model.py", MODEL)
    found = run("inspect", "model:relu")
    assert found.exit_code == 0
    assert "relu (model.py:19) beside plain autodiff" in found.stdout
    assert "Kept for the backward pass: 4 bytes, 25.0% of autodiff's 16" in found.stdout
    assert "bool[4]              x > 0        model.py:8" in found.stdout
    assert "importing" not in found.stdout
    assert folder.names() == ["model.py", "pyproject.toml"]


def test_json_a_page_and_another_set_of_arguments(folder: Folder, run: Run):
    folder.write("pkg/model.py", MODEL)
    options = ("--set", "2", "--output-format", "json", "--html", "page.html")
    found = run("inspect", "pkg/model.py:relu", *options)
    assert found.exit_code == 0, found.stderr
    assert json.loads(found.stdout)["rule"]["kept"] == 8
    assert found.stderr.splitlines()[-1] == "Wrote page.html"
    assert folder.read("page.html").startswith("<!doctype html>")
    assert "Wrote" not in run("inspect", "pkg/model.py:relu", "-q", *options).stderr


@pytest.mark.parametrize("name", ["One", "One.__call__", "Heir.__call__"])
def test_a_class_with_one_rule_and_one_that_inherits_it(folder: Folder, run: Run, name: str):
    folder.write("model.py", MODEL)
    found = run("inspect", f"model:{name}", "-v")
    assert found.exit_code == 0, found.stderr
    assert "params.Dense_0.kernel  float32[3,2]" in found.stdout
    assert "The rule's backward:\n{ lambda" in found.stdout


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("model:Net", "`Net` has several rules; there are:\n  model:Net.first\n  model:Net.second"),
        ("model", "no function is named; there are:\n  model:relu\n"),
        ("model:rleu", "model has no rule on `rleu`; did you mean `relu`? There are:\n"),
        ("model:Net.frist", "did you mean `Net.first`?"),
        ("model.py:xyz", "model.py has no rule on `xyz`; there are:\n  model.py:relu\n"),
        ("model:One.helper", "model has no rule on `One.helper`"),
        ("./model.py", "no function is named"),
        ("modle:relu", "no module is called `modle`"),
        ("empty", "empty has no annotated function"),
        ("model:Net.first", "the rule of `Net.first` has no example: write a function"),
    ],
)
def test_wrong_usage(folder: Folder, run: Run, target: str, message: str):
    folder.write("model.py", MODEL)
    folder.write("empty.py", "")
    found = run("inspect", target)
    assert found.exit_code == 2
    assert message in found.stderr
    assert "Traceback" not in found.stderr


def test_a_set_that_there_is_not(folder: Folder, run: Run):
    folder.write("model.py", MODEL)
    found = run("inspect", "model:relu", "--set", "3")
    assert (found.exit_code, "the example returns 2 sets" in found.stderr) == (2, True)


ANNOTATED = "# custom-vjp: bwd=bwd, example=example\ndef f(x):\n    return x\n"


@pytest.mark.parametrize(
    ("text", "status", "message", "line"),
    [
        (
            "def example():\n    return jnp.nothing\n\n\n" + ANNOTATED,
            2,
            "Error: the example of `f` failed",
            "    return jnp.nothing",
        ),
        (
            "def example():\n    return jnp.ones(3)\n\n\n" + ANNOTATED,
            2,
            "the example `example` returned a value of type ArrayImpl",
            "",
        ),
        (
            "def example():\n    return (1,)\n\n\n" + ANNOTATED,
            2,
            "nothing in the example can be differentiated",
            "",
        ),
        (
            "def example():\n    return (jnp.ones(3),)\n\n\n"
            + ANNOTATED.replace("return x", "return x @ jnp.ones((4, 4))"),
            2,
            "Error: `f` failed on its example",
            "    return x @ jnp.ones((4, 4))",
        ),
        (
            "def example():\n    return (jnp.ones(3),)\n\n\n"
            + ANNOTATED.replace("bwd=bwd", "bwd=short")
            + "\n\ndef short(vjp_fn, y_t):\n    return (y_t[:2],)\n",
            1,
            "Error: the rule of `f` (model.py:12) failed on its example",
            "x: expected float32[3], not float32[2]",
        ),
        ("raise SystemExit(3)\n\n\n" + ANNOTATED, 1, "VJP101", ""),
        (
            "import nowhere\n\n\ndef example():\n    return ()\n\n\n" + ANNOTATED,
            2,
            "Error: importing model failed",
            "ModuleNotFoundError: No module named 'nowhere'",
        ),
    ],
)
def test_failures_of_the_users_code(
    folder: Folder, run: Run, text: str, status: int, message: str, line: str
):
    folder.write("model.py", RULE + text)
    found = run("inspect", "model:f")
    assert found.exit_code == status, found.stderr
    assert message in found.stderr
    assert line in found.stderr
    assert found.stdout == ""
    assert not any(f"{os.sep}{name}{os.sep}" in found.stderr for name in ("vjpgen", "jax", "flax"))


def test_an_example_that_is_out_of_reach(folder: Folder, run: Run):
    nested = (
        "def make(x):\n    def example():\n        return (x,)\n\n"
        "    # custom-vjp: bwd=bwd, example=example\n    def f(x):\n        return x\n\n"
        "    return f(x)\n"
    )
    folder.write("model.py", RULE + nested)
    found = run("inspect", "model:make.<locals>.f")
    assert found.exit_code == 2
    assert "define it at the level of the module" in found.stderr


def test_errors_of_the_source_are_findings(folder: Folder, run: Run):
    folder.write("model.py", BAD)
    found = run("inspect", "model:scale")
    assert (found.exit_code, "VJP101" in found.stderr) == (1, True)


def test_as_a_process(folder: Folder):
    folder.write("model.py", MODEL)
    done = subprocess.run(
        [sys.executable, "-m", "vjpgen", "inspect", "model:relu", "--html", "none/page.html"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("Error: ")
    assert "none/page.html" in done.stderr
    assert done.stdout == ""
