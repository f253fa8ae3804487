"""What absolute paths say of one another, and the files that tell where things begin."""

from __future__ import annotations

import os
from collections.abc import Iterator

MARKER = "pyproject.toml"
SETTINGS = (MARKER, ".gitignore")


def is_inside(path: str, folder: str) -> bool:
    """Whether a path is a folder, or lies below it."""
    return os.path.join(path, "").startswith(os.path.join(folder, ""))


def is_below(path: str, folder: str) -> bool:
    """Whether a path lies below a folder, and is not the folder itself."""
    return path != folder and is_inside(path, folder)


def upwards(folder: str) -> Iterator[str]:
    """Yield a folder and those above it, the nearest first."""
    yield folder
    while folder != (parent := os.path.dirname(folder)):
        folder = parent
        yield folder


def project_root(folder: str) -> str | None:
    """Return the nearest folder upwards with a `pyproject.toml`; None where there is none."""
    holding = (each for each in upwards(folder) if os.path.isfile(os.path.join(each, MARKER)))
    return next(holding, None)


def is_package(folder: str) -> bool:
    """Whether a folder is a package that says so by an `__init__.py`."""
    return os.path.isfile(os.path.join(folder, "__init__.py"))


def package_root(folder: str) -> str:
    """Return the first folder from here upwards that is no package that says so."""
    return next((each for each in upwards(folder) if not is_package(each)), folder)
