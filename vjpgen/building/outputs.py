"""Knowing a folder of mirrored packages again, so that nothing in it is taken for a source."""

from __future__ import annotations

import os
from collections.abc import Container

from vjpgen.building.manifest import MANIFEST
from vjpgen.building.projects import Project


def is_output(real: str, names: Container[str], project: Project) -> bool:
    """Whether a folder is one that packages are mirrored under.

    Args:
        real: its absolute path, links seen through.
        names: the names of what lies in it.
        project: the project that it belongs to.
    """
    return MANIFEST in names or (project.out is not None and real == project.out.real)


def lies_in_output(path: str, project: Project) -> bool:
    """Whether a path is, or lies in, a folder that packages are mirrored under."""
    at = os.path.realpath(path)
    while True:
        if os.path.isfile(os.path.join(at, MANIFEST)) or is_output(at, (), project):
            return True
        parent = os.path.dirname(at)
        if parent == at:
            return False
        at = parent
