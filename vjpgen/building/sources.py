"""The text of a project's modules by name, read only when it is asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from vjpgen.building.files import read

_INIT = "__init__.py"

Text = tuple[bytes, str]


@dataclass(frozen=True)
class ProjectSources:
    """The modules of a project as one folder that is imported from sees them.

    Args:
        folders: where a module is looked for, in this order, by the first part of its name.
        texts: what was found so far, by module.
    """

    folders: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    texts: dict[str, Text | None] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    def __reduce__(self) -> tuple[Any, ...]:
        return ProjectSources, (self.folders,)

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
        for folder in self.folders.get(parts[0], ()):
            path = os.path.join(folder, *parts)
            yield os.path.join(path, _INIT)
            yield f"{path}.py"


def _read(path: str) -> bytes | None:
    try:
        return read(path)
    except (OSError, ValueError):
        return None
