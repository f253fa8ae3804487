"""The command line, measured against what any program would have to do in its place."""

from __future__ import annotations

import dataclasses
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks import models

_READ_AND_PRINT = """
import os, sys
import libcst
for folder, _, names in os.walk(sys.argv[1]):
    for name in names:
        with open(os.path.join(folder, name), "rb") as file:
            data = file.read()
        if b"custom-vjp" in data:
            libcst.parse_module(data).bytes
"""
_NO_OP = """
from libcst.codemod import CodemodCommand
class NoOp(CodemodCommand):
    DESCRIPTION = "Change nothing."
    def transform_module_impl(self, tree):
        return tree
"""
_PLAIN_FUNCTION = '''

def function_{0}(first, second={0}):
    """Add two numbers and {0}."""
    total = first + second
    if total > {0}:
        return [item * total for item in range({0})]
    return {{"first": first, "second": second}}
'''


@dataclasses.dataclass(frozen=True)
class Tree:
    """A source tree to build.

    Args:
        files: the number of Python files.
        annotated: how many of them hold annotations.
    """

    files: int
    annotated: int

    @property
    def title(self) -> str:
        """The words for it in the table."""
        return f"{self.files} files, {self.annotated} annotated"

    def write(self, root: Path) -> None:
        """Write the tree below `root`."""
        (root / "pyproject.toml").write_text('[project]\nname = "tree"\nversion = "1"\n')
        plain = "".join(_PLAIN_FUNCTION.format(index) for index in range(12))
        annotated = Path(models.__file__).read_text() + plain
        for index in range(self.files):
            folder = root / "tree" / f"part_{index // 50}"
            folder.mkdir(parents=True, exist_ok=True)
            text = annotated if index < self.annotated else plain
            (folder / f"module_{index}.py").write_text(text)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One figure of the command line.

    Args:
        figure: what was run.
        seconds: how long it took.
        against: what it is compared with.
        baseline: how long that took.
        goal: what the ratio may be at most.
    """

    figure: str
    seconds: float
    against: str
    baseline: float
    goal: float

    @property
    def ratio(self) -> float:
        """The figure over its baseline."""
        return self.seconds / self.baseline


def compare(tree: Tree, repeat: int, codemod: bool) -> list[Comparison]:
    """Measure the command line on `tree`, all commands in turn in each round.

    Args:
        tree: what to build.
        repeat: the number of rounds.
        codemod: also compare with `libcst.tool codemod`, which takes long.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        tree.write(root)
        rounds = [_round(root, tree) for _ in range(repeat)]
        spent = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
        found = _comparisons(tree, spent)
        if codemod:
            _remove_generated(root)
            first, slow = spent["first"], _codemod(root)
            found.append(Comparison(found[-1].figure, first, "libcst.tool codemod", slow, 0.1))
        return found


def _comparisons(tree: Tree, spent: dict[str, float]) -> list[Comparison]:
    floor = 8 * spent["pass"] + spent["walk"]
    return [
        Comparison("vjpgen --version", spent["version"], "python -c pass", spent["pass"], 4.0),
        Comparison(
            f"vjpgen build, nothing to do ({tree.title})",
            spent["again"],
            "8 x python -c pass + walk and stat",
            floor,
            1.0,
        ),
        Comparison(
            f"vjpgen build, first time ({tree.title})",
            spent["first"],
            "read all, libcst parse and print the annotated",
            spent["libcst"],
            1.5,
        ),
    ]


def _round(root: Path, tree: Tree) -> dict[str, float]:
    _remove_generated(root)
    vjpgen = _vjpgen()
    spent = {
        "pass": _run(sys.executable, "-c", "pass"),
        "version": _run(*vjpgen, "--version"),
        "libcst": _run(sys.executable, "-c", _READ_AND_PRINT, str(root)),
        "first": _run(*vjpgen, "build", str(root)),
    }
    assert len(_generated(root)) == tree.annotated
    return {
        **spent,
        "again": _run(*vjpgen, "build", str(root)),
        "walk": _timed(lambda: _walk(root)),
    }


def _vjpgen() -> list[str]:
    """The installed script, or the module where there is none."""
    script = Path(sysconfig.get_path("scripts"), "vjpgen")
    return [str(script)] if script.exists() else [sys.executable, "-m", "vjpgen"]


def _codemod(root: Path) -> float:
    (root / "no_op.py").write_text(_NO_OP)
    tool = (sys.executable, "-m", "libcst.tool", "codemod", "--external", "--no-format")
    return _run(*tool, "no_op.NoOp", str(root / "tree"), cwd=root)


def _run(*command: str, cwd: Path | None = None) -> float:
    start = time.perf_counter()
    process = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    spent = time.perf_counter() - start
    assert process.returncode == 0, process.stderr
    return spent


def _timed(function: Callable[[], None]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _walk(root: Path) -> None:
    for folder, _, names in os.walk(root):
        for name in names:
            os.stat(os.path.join(folder, name))


def _generated(root: Path) -> list[Path]:
    return list(root.rglob("*_vjp.py"))


def _remove_generated(root: Path) -> None:
    for path in _generated(root):
        path.unlink()
