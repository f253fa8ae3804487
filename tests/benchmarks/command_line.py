"""The command line, measured against what any program would have to do in its place."""

from __future__ import annotations

import dataclasses
import os
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks import models

FIRST_BUILD = "vjpgen build, first time"
CODEMOD, AGAINST_CODEMOD, CODEMOD_GOAL = "codemod", "libcst.tool codemod", 0.1
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
        root.mkdir()
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
        goal: what the ratio may be at most; None where there is no goal.
    """

    figure: str
    seconds: float
    against: str
    baseline: float
    goal: float | None

    @property
    def ratio(self) -> float:
        """The figure over its baseline."""
        return self.seconds / self.baseline


@dataclasses.dataclass(frozen=True)
class Spent:
    """What each command took on one tree, in seconds, and how much it had to read.

    Args:
        tree: the tree.
        size: the bytes of its sources.
        seconds: by the name of the command.
    """

    tree: Tree
    size: int
    seconds: dict[str, float]


def measure(tree: Tree, repeat: int, codemod: bool) -> Spent:
    """Measure the command line on `tree`, all commands in turn in each round.

    Args:
        tree: what to build.
        repeat: the number of rounds.
        codemod: also run `libcst.tool codemod`, which takes long.
    """
    with tempfile.TemporaryDirectory() as folder:
        root, cache = Path(folder, "sources"), Path(folder, "cache")
        tree.write(root)
        size = sum(path.stat().st_size for path in root.rglob("*.py"))
        rounds = [_round(root, cache, tree) for _ in range(repeat)]
        seconds = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
        if codemod:
            _remove_generated(root)
            seconds[CODEMOD] = _codemod(root)
        return Spent(tree, size, seconds)


def comparisons(spent: Spent) -> list[Comparison]:
    """Compare each figure with what any program would have to do in its place."""
    seconds, title = spent.seconds, spent.tree.title
    floor = 8 * seconds["pass"] + seconds["walk"]
    against_libcst = "read all, libcst parse and print the annotated"
    found = [
        Comparison("vjpgen --version", seconds["version"], "python -c pass", seconds["pass"], 4.0),
        Comparison(
            f"vjpgen build, nothing to do ({title})",
            seconds["again"],
            "8 x python -c pass + walk and stat",
            floor,
            1.0,
        ),
        Comparison(
            f"vjpgen build, one file changed ({title})",
            seconds["one"],
            "import libcst + walk and stat",
            seconds["import"] + seconds["walk"],
            None,
        ),
        Comparison(
            f"{FIRST_BUILD} ({title})",
            seconds["first"],
            against_libcst,
            seconds["libcst"],
            1.5,
        ),
    ]
    if CODEMOD in seconds:
        slow = seconds[CODEMOD]
        found.append(
            Comparison(found[-1].figure, seconds["first"], AGAINST_CODEMOD, slow, CODEMOD_GOAL)
        )
    return found


def _round(root: Path, cache: Path, tree: Tree) -> dict[str, float]:
    _remove_generated(root)
    shutil.rmtree(cache, ignore_errors=True)
    vjpgen = _vjpgen()
    environment = {**os.environ, "VJPGEN_CACHE_DIR": str(cache)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed program has its bytecode

    def run(*command: str) -> float:
        return _run(*command, environment=environment)

    spent = {
        "pass": run(sys.executable, "-c", "pass"),
        "import": run(sys.executable, "-c", "import libcst"),
        "version": run(*vjpgen, "--version"),
        "libcst": run(sys.executable, "-c", _READ_AND_PRINT, str(root)),
        "first": run(*vjpgen, "build", str(root)),
    }
    assert len(_generated(root)) == tree.annotated
    spent |= {"again": run(*vjpgen, "build", str(root)), "walk": _timed(lambda: _walk(root))}
    changed = next(root.rglob("module_0.py"))
    before = changed.read_bytes()
    changed.write_bytes(before + b"\n\nCHANGED = True\n")
    spent["one"] = run(*vjpgen, "build", str(root))
    assert b"CHANGED" in changed.with_name("module_0_vjp.py").read_bytes()
    changed.write_bytes(before)
    return spent


def _vjpgen() -> list[str]:
    """The installed script, or the module where there is none."""
    script = Path(sysconfig.get_path("scripts"), "vjpgen")
    return [str(script)] if script.exists() else [sys.executable, "-m", "vjpgen"]


def _codemod(root: Path) -> float:
    (root / "no_op.py").write_text(_NO_OP)
    tool = (sys.executable, "-m", "libcst.tool", "codemod", "--external", "--no-format")
    return _run(*tool, "no_op.NoOp", str(root / "tree"), cwd=root)


def _run(
    *command: str, cwd: Path | None = None, environment: dict[str, str] | None = None
) -> float:
    start = time.perf_counter()
    process = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
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
