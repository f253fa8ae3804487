"""Where the module goes that is generated from a source, and how it is imported there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from vjpgen.building.gather import UsageError, output_name
from vjpgen.building.manifest import MANIFEST, Entry, read_manifest
from vjpgen.building.paths import is_inside
from vjpgen.building.projects import OutDir, Packages, Project
from vjpgen.building.roots import Roots
from vjpgen.building.walk import Found


@dataclass(frozen=True)
class Place:
    """A file to be written.

    Args:
        path: its absolute path.
        shown: that path as the user would write it.
        real: where it must lie, links seen through; None where it may lie anywhere.
        recorded: what an earlier run has recorded of it; None for nothing.
    """

    path: str
    shown: str
    real: str | None = None
    recorded: Entry | None = None

    @property
    def target(self) -> str:
        """The file that would be written in the end, links and letter case seen through."""
        return os.path.normcase(self.real or os.path.realpath(self.path))

    def leads_out(self) -> bool:
        """Whether a link makes this another file than it seems."""
        if self.real is None:
            return False
        return os.path.normcase(os.path.realpath(self.path)) != os.path.normcase(self.real)


class Layout(Protocol):
    """How generated modules lie to their sources."""

    @property
    def redirects(self) -> bool:
        """Whether imports of annotated modules are redirected."""
        ...

    @property
    def takes_init(self) -> bool:
        """Whether an `__init__.py` can have a generated module."""
        ...

    @property
    def advice(self) -> str:
        """How to make room where a file of the user's stands."""
        ...

    def place(self, file: Found) -> Place:
        """Return where the module goes that is generated from a source."""
        ...


@dataclass(frozen=True)
class Beside:
    """Each module beside its source, under another name."""

    redirects: bool = True
    takes_init: bool = False
    advice: str = "move it away, or set another `suffix` in [tool.vjpgen]"

    def place(self, file: Found) -> Place:
        """Return the module's place in the folder of its source."""
        name = output_name(file)
        folder = os.path.dirname(file.path)
        return Place(os.path.join(folder, name), os.path.join(os.path.dirname(file.shown), name))


@dataclass(frozen=True)
class Mirrored:
    """Whole packages under one folder, each module under its own name.

    Args:
        out: the folder.
        roots: finds the folder that a source is imported from.
        manifest: what earlier runs have written into the folder.
    """

    out: OutDir
    roots: Roots
    manifest: Mapping[str, Entry] = field(repr=False)
    redirects: bool = False
    takes_init: bool = True
    advice: str = "move it away, or name another `--out-dir`"

    def place(self, file: Found) -> Place:
        """Return the module's place under the folder."""
        return self.place_of(self.name(file.path, file.project))

    def name(self, path: str, project: Project) -> str:
        """Return a file's path in the mirror, with "/"."""
        root = self.roots.root(os.path.dirname(path), project)
        return path[len(os.path.join(root, "")) :].replace(os.sep, "/")

    def place_of(self, name: str) -> Place:
        """Return the place with this path in the mirror."""
        path, shown, real = (
            os.path.join(folder, *name.split("/"))
            for folder in (self.out.path, self.out.shown, self.out.real)
        )
        return Place(path, shown, real, self.manifest.get(name))

    def source_of(self, name: str, entry: Entry) -> str:
        """Return the path of the source of a recorded file."""
        return os.path.normpath(os.path.join(self.out.real, entry.root, name))

    def root_of(self, path: str, project: Project) -> str:
        """Return the folder that a file is imported from, seen from the mirror, with "/"."""
        root = self.roots.root(os.path.dirname(path), project)
        return self.roots.seen_from(self.out.real, root)


class Layouts:
    """The layout of each project, settled once.

    Args:
        packages: finds the root of a package.
    """

    def __init__(self, packages: Packages) -> None:
        self._roots = Roots(packages)
        self._mirrored: dict[str, Mirrored] = {}

    def inside_package(self, folder: str, project: Project) -> bool:
        """Whether a folder's files of every kind belong to a package."""
        return self._roots.is_inside_package(folder, project)

    def of(self, project: Project) -> Layout:
        """Return the layout of a project.

        Raises:
            UsageError: where the project's modules cannot go where they should.
        """
        return Beside() if project.out is None else self.mirrored(project.out, project)

    def mirrored(self, out: OutDir, project: Project) -> Mirrored:
        """Return the layout of a project whose packages are mirrored under a folder.

        Raises:
            UsageError: where the folder is none, or holds the project.
        """
        _refuse(out, project)
        if out.path not in self._mirrored:
            self._mirrored[out.path] = Mirrored(out, self._roots, _manifest(out))
        return self._mirrored[out.path]


def _manifest(out: OutDir) -> dict[str, Entry]:
    try:
        return read_manifest(out.path)
    except OSError as error:
        name = os.path.join(out.shown, MANIFEST)
        raise UsageError(f"`--out-dir`: {name}: {error.strerror}") from error


def _refuse(out: OutDir, project: Project) -> None:
    """Refuse a folder that cannot be one, or in which the sources would be overwritten."""
    if os.path.lexists(out.path) and not os.path.isdir(out.path):
        raise UsageError(f"`--out-dir`: {out.shown} is not a folder")
    if is_inside(os.path.realpath(project.root), os.path.realpath(out.path)):
        raise UsageError(f"`--out-dir`: {out.shown} holds the sources; name a folder of its own")
