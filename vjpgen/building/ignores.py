"""What a walk passes over: the usual folders, `.gitignore` files and `exclude`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vjpgen.building.paths import is_inside

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

NEVER_WALKED = frozenset(
    {
        ".bzr",
        ".direnv",
        ".eggs",
        ".git",
        ".git-rewrite",
        ".hg",
        ".hypothesis",
        ".ipynb_checkpoints",
        ".mypy_cache",
        ".nox",
        ".pants.d",
        ".pyenv",
        ".pytest_cache",
        ".pytype",
        ".ruff_cache",
        ".svn",
        ".tox",
        ".venv",
        ".vscode",
        "__pycache__",
        "__pypackages__",
        "buck-out",
        "node_modules",
        "site-packages",
    }
)
_NOT_UNLESS_A_PACKAGE = frozenset({"_build", "build", "dist", "env", "venv"})


def is_usually_passed_over(path: str, *, in_package: bool = False) -> bool:
    """Whether a folder is of a kind that holds no sources of one's own.

    Args:
        path: the folder.
        in_package: whether it lies in a package, so that `dist` and its like are part of that.
    """
    name = os.path.basename(path)
    if name in NEVER_WALKED or os.path.isfile(os.path.join(path, "pyvenv.cfg")):
        return True
    if in_package or name not in _NOT_UNLESS_A_PACKAGE:
        return False
    return not os.path.isfile(os.path.join(path, "__init__.py"))


@dataclass(frozen=True)
class Ignores:
    """The `.gitignore` files that hold in a folder, the deepest last, each with its folder."""

    layers: tuple[tuple[str, GitIgnoreSpec], ...] = ()

    def ignores(self, path: str) -> bool:
        """Whether a path is ignored; the deepest file that speaks of it decides."""
        for folder, spec in reversed(self.layers):
            relative = path[len(folder) :].replace(os.sep, "/").lstrip("/")
            verdict = spec.check_file(relative).include
            if verdict is not None:
                return verdict
        return False

    def inside(self, folder: str) -> Ignores:
        """Return what holds in a folder one level down, or in this one at the start."""
        spec = _read(os.path.join(folder, ".gitignore"))
        return self if spec is None else Ignores((*self.layers, (folder, spec)))


def ignores_above(folder: str, project_root: str) -> Ignores:
    """Gather the `.gitignore` files above a folder, up to the repository's or project's root.

    Those that ignore the folder itself are left out: it was named outright.
    """
    found = Ignores()
    for parent in reversed(_parents(folder, project_root)):
        found = found.inside(parent)
    kept = [layer for layer in found.layers if not Ignores((layer,)).ignores(folder + os.sep)]
    return Ignores(tuple(kept))


def _parents(folder: str, project_root: str) -> list[str]:
    """List the folders above, the nearest first, that belong to the same repository or project."""
    above: list[str] = []
    at = folder
    while not os.path.exists(os.path.join(at, ".git")):
        parent = os.path.dirname(at)
        if parent == at:  # no repository: stop at the project
            return [each for each in above if is_inside(each, project_root)]
        above.append(parent)
        at = parent
    return above


def _read(path: str) -> GitIgnoreSpec | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return None
    from pathspec import GitIgnoreSpec

    return GitIgnoreSpec.from_lines(lines)
