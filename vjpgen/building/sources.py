"""The text of a project's modules by name, read only when it is asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from vjpgen.building.files import read

_INIT = "__init__.py"


@dataclass(frozen=True)
class ProjectSources:
    """The modules of a project as one folder that is imported from sees them.

    Args:
        folders: where a module is looked for, in this order, by the first part of its name.
    """

    folders: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def get(self, module: str) -> tuple[bytes, str] | None:
        """Return a module's bytes and the package that its relative imports start from."""
        parts = module.split(".")
        for folder in self.folders.get(parts[0], ()):
            path = os.path.join(folder, *parts)
            found = _read(os.path.join(path, _INIT))
            if found is not None:
                return found, module
            found = _read(f"{path}.py")
            if found is not None:
                return found, ".".join(parts[:-1])
        return None


def _read(path: str) -> bytes | None:
    try:
        return read(path)
    except (OSError, ValueError):
        return None
