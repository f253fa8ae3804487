"""The text of a project's modules by name, read only when it is asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from vjpgen.building.files import read

_INIT = "__init__.py"

Text = tuple[bytes, str]


@dataclass(frozen=True)
class Tops:
    """The names at the top of the folders that a project's modules are imported from.

    Args:
        roots: those folders, by the names that each has.
        project: the project's own folder.
        in_project: the names that it has.
    """

    roots: Mapping[str, Collection[str]]
    project: str
    in_project: Collection[str]

    def folders(self, top: str, root: str) -> Iterator[str]:
        """Yield where a module of a top is looked for by what is imported from a root."""
        roots = self.roots.get(top, ())
        if root in roots:
            yield root
        elif len(roots) == 1 and top not in sys.stdlib_module_names:
            yield from roots
        if top in self.in_project:
            yield self.project


@dataclass(frozen=True)
class ProjectSources:
    """The modules of a project as one folder that is imported from sees them.

    Args:
        tops: where modules are, by the first part of their name.
        root: the folder that is imported from.
        texts: what was found so far, by module.
    """

    tops: Tops
    root: str
    texts: dict[str, Text | None] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    def __reduce__(self) -> tuple[Any, ...]:
        return ProjectSources, (self.tops, self.root)

    def get(self, module: str) -> Text | None:
        """Return a module's bytes and the package that its relative imports start from."""
        if module not in self.texts:
            self.texts[module] = self._find(module)
        return self.texts[module]

    def _find(self, module: str) -> Text | None:
        package = module.rpartition(".")[0]
        for path in self.paths(module):
            found = _read(path)
            if found is not None:
                return found, module if os.path.basename(path) == _INIT else package
        return None

    def paths(self, module: str) -> Iterator[str]:
        """Yield the absolute paths that a module is looked for at, in this order."""
        parts = module.split(".")
        for folder in self.tops.folders(parts[0], self.root):
            path = os.path.join(folder, *parts)
            yield os.path.join(path, _INIT)
            yield f"{path}.py"


def _read(path: str) -> bytes | None:
    try:
        return read(path)
    except (OSError, ValueError):
        return None
