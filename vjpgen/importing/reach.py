"""Which modules `vjpgen run` compiles: those of the program's own project."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from importlib.machinery import ModuleSpec

from vjpgen.building.ignores import is_usually_passed_over
from vjpgen.building.paths import is_inside, package_root, project_root


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
    return Reach(project_root(start) or package_root(start), package)


@cache
def _is_own(folder: str, root: str) -> bool:
    """Whether a folder lies in a project, links seen through, and not where others' code does."""
    at = os.path.realpath(folder)
    if not is_inside(at, root):
        return False
    while at != root:
        if is_usually_passed_over(at):
            return False
        at = os.path.dirname(at)
    return True
