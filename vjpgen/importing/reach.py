"""Which modules `vjpgen run` compiles: those of the program's own project."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from importlib.machinery import ModuleSpec

from vjpgen.building.ignores import is_usually_passed_over


@dataclass(frozen=True)
class Reach:
    """Where a module must lie, or what it must be called, to be compiled.

    Args:
        root: the folder of the project; installed packages and the like below it do not count.
        package: a top-level package or module that was named outright, wherever it lies.
    """

    root: str
    package: str | None = None

    def covers(self, spec: ModuleSpec) -> bool:
        """Whether a module is to be compiled."""
        if self.package is not None and spec.name.partition(".")[0] == self.package:
            return True
        origin = spec.origin
        if not spec.has_location or origin is None or not origin.endswith(".py"):
            return False
        return _is_own(os.path.dirname(os.path.abspath(origin)), self.root)


def reach_of(start: str, package: str | None) -> Reach:
    """Return what a program that starts in a folder reaches: the nearest project around it.

    Without a `pyproject.toml` around it, that is the folder, or the one that holds its package.
    """
    folder = start
    while not os.path.isfile(os.path.join(folder, "pyproject.toml")):
        parent = os.path.dirname(folder)
        if parent == folder:
            return Reach(_above_packages(start), package)
        folder = parent
    return Reach(folder, package)


def _above_packages(folder: str) -> str:
    while os.path.isfile(os.path.join(folder, "__init__.py")):
        folder = os.path.dirname(folder)
    return folder


@cache
def _is_own(folder: str, root: str) -> bool:
    """Whether a folder lies in a project, links seen through, and not where others' code does."""
    at = os.path.realpath(folder)
    if not os.path.join(at, "").startswith(os.path.join(root, "")):
        return False
    while at != root:
        if is_usually_passed_over(at):
            return False
        at = os.path.dirname(at)
    return True
