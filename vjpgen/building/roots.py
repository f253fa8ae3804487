"""Where the names of a file begin, when packages are mirrored: the folder to be imported from.

A package is imported from the folder that holds it, and so is all that lies inside it. What
lies under `src` of a project, packages without `__init__.py` among it, is imported from there.
A module in another plain folder is imported from that folder where a package stands beside it,
else from the project's root, as `python -m scripts.train` would.

All of this is read off the disk, so that it does not depend on what is built.
"""

from __future__ import annotations

import os

from vjpgen.building.paths import is_inside
from vjpgen.building.projects import Packages, Project

_INIT = "__init__.py"


class Roots:
    """The source root of each folder, found once.

    Args:
        packages: finds the root of a package.
    """

    def __init__(self, packages: Packages) -> None:
        self._packages = packages
        self._listings: dict[str, frozenset[str]] = {}
        self._known: dict[tuple[str, str], tuple[str, bool]] = {}
        self._ways: dict[tuple[str, str], str] = {}

    def root(self, folder: str, project: Project) -> str:
        """Return the folder from which what lies in `folder` is imported."""
        return self._place(folder, project)[0]

    def seen_from(self, folder: str, root: str) -> str:
        """Return the way from a folder to a source root, links seen through, with "/"."""
        if (folder, root) not in self._ways:
            self._ways[folder, root] = _way(folder, os.path.realpath(root))
        return self._ways[folder, root]

    def is_inside_package(self, folder: str, project: Project) -> bool:
        """Whether a folder's files of every kind belong to a package."""
        return self._place(folder, project)[1]

    def _place(self, folder: str, project: Project) -> tuple[str, bool]:
        key = (project.root, folder)
        if key not in self._known:
            self._known[key] = self._find(folder, project.root)
        return self._known[key]

    def _find(self, folder: str, project: str) -> tuple[str, bool]:
        source = os.path.join(project, "src")
        package = self._outermost(folder, project)
        if is_inside(folder, source) and not (package and is_inside(source, package)):
            return source, package is not None or self._holds_code(folder, source)
        if package is not None:
            return self._packages.root(package), True
        beside = folder != project and self._holds_package(folder)
        return folder if beside else project, False

    def _outermost(self, folder: str, project: str) -> str | None:
        """Return the outermost package around a folder, within its project."""
        inside = [each for each in _upwards(folder, project) if self._has(each, _INIT)]
        return inside[-1] if inside else None

    def _holds_code(self, folder: str, source: str) -> bool:
        """Whether a folder under `src`, or one that it lies in, holds modules of its own."""
        above = [each for each in _upwards(folder, source) if each != source]
        return any(name.endswith(".py") for each in above for name in self._listing(each))

    def _holds_package(self, folder: str) -> bool:
        return any(
            os.path.isfile(os.path.join(folder, name, _INIT))
            for name in self._listing(folder)
            if "." not in name
        )

    def _has(self, folder: str, name: str) -> bool:
        return name in self._listing(folder)

    def _listing(self, folder: str) -> frozenset[str]:
        if folder not in self._listings:
            try:
                self._listings[folder] = frozenset(os.listdir(folder))
            except OSError:
                self._listings[folder] = frozenset()
        return self._listings[folder]


def _way(folder: str, root: str) -> str:
    try:
        return os.path.relpath(root, folder).replace(os.sep, "/")
    except ValueError:  # on another drive
        return root.replace(os.sep, "/")


def _upwards(folder: str, last: str) -> list[str]:
    """List a folder and those above it, up to `last`; the folder alone where it lies elsewhere."""
    if not is_inside(folder, last):
        return [folder]
    found = [folder]
    while found[-1] != last:
        found.append(os.path.dirname(found[-1]))
    return found
