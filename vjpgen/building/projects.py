"""Projects and packages: which configuration holds for a file, and what its module is called."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from vjpgen.building.paths import MARKER, is_inside, is_package
from vjpgen.config import Config, load_config
from vjpgen.globs import fits

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec


@dataclass(frozen=True)
class OutDir:
    """The folder under which packages are mirrored.

    Args:
        path: its absolute path.
        shown: its path as the user would write it.
    """

    path: str
    shown: str

    @cached_property
    def real(self) -> str:
        """Its path, links seen through."""
        return os.path.realpath(self.path)


@dataclass(frozen=True)
class Project:
    """A folder of modules that import one another, with its configuration.

    Args:
        root: the project's folder.
        base: the folder that the configuration's patterns start from.
        config: the configuration.
        out: the folder under which its packages are mirrored; None writes beside the sources.
    """

    root: str
    base: str
    config: Config
    out: OutDir | None = None

    @cached_property
    def _exclude(self) -> GitIgnoreSpec:
        from pathspec import GitIgnoreSpec

        return GitIgnoreSpec.from_lines(self.config.exclude)

    def excludes(self, path: str) -> bool:
        """Whether the configuration excludes this path; a folder's path ends in a slash."""
        return bool(self.config.exclude) and self._exclude.match_file(self._relative(path))

    def patterns_of(self, path: str) -> tuple[str, ...]:
        """The patterns of `per-file-ignores` that this file fits."""
        keys = [pattern for pattern, _ in self.config.selection.per_file_ignores]
        relative = self._relative(path) if keys else ""
        return tuple(
            key for key in keys if fits(key.removeprefix("!"), relative) != key.startswith("!")
        )

    def _relative(self, path: str) -> str:
        for folder in (self.base, self.root):
            prefix = os.path.join(folder, "")
            if path.startswith(prefix):
                return path.removeprefix(prefix).replace(os.sep, "/")
        return os.path.basename(path)


class Projects:
    """The project of each folder, found once.

    Args:
        config_file: a configuration that holds everywhere, or None for the nearest one.
        fallback: the root of files that lie under no `pyproject.toml`.
        out_dir: the folder of `--out-dir`, which goes before any configuration's.
    """

    def __init__(self, config_file: str | None, fallback: str, out_dir: str | None = None) -> None:
        self._fixed = None if config_file is None else load_config(config_file)
        self._out = None if out_dir is None else _out_dir(out_dir)
        self._known: dict[str, Project] = {}
        self._fallback = self._project(fallback, None)

    def of(self, folder: str) -> Project:
        """Return the project that a folder belongs to, by absolute path."""
        if folder not in self._known:
            self._known[folder] = self._find(folder)
        return self._known[folder]

    def met(self) -> tuple[Project, ...]:
        """Return the projects of the folders that were asked for so far."""
        return tuple({project.root: project for project in self._known.values()}.values())

    def _find(self, folder: str) -> Project:
        marker = os.path.join(folder, MARKER)
        if os.path.isfile(marker):
            return self._project(folder, marker)
        parent = os.path.dirname(folder)
        return self._fallback if parent == folder else self.of(parent)

    def _project(self, root: str, file: str | None) -> Project:
        if self._fixed is not None:
            base, config = os.getcwd(), self._fixed
        else:
            base, config = root, Config() if file is None else load_config(file)
        out = self._out
        if out is None and config.out_dir is not None:
            out = _out_dir(_from_here(os.path.join(base, config.out_dir)))
        return Project(root, base, config, out)


def _out_dir(path: str) -> OutDir:
    return OutDir(os.path.abspath(path), os.path.normpath(as_shown(path)))


def _from_here(path: str) -> str:
    try:
        return os.path.relpath(path)
    except ValueError:  # on another drive
        return path


def as_shown(path: str) -> str:
    """Return a path as it is shown: what lies in the current folder, relative to it."""
    if not is_inside(os.path.normpath(path), os.getcwd()):
        return path
    return os.path.relpath(path) + os.sep * path.endswith(os.sep)


def common_root(paths: Iterable[str]) -> str:
    """Return the deepest folder that holds all of these absolute paths, and its whole package."""
    folders = [path if os.path.isdir(path) else os.path.dirname(path) for path in paths]
    try:
        root = os.path.commonpath(folders)
    except ValueError:  # no path at all, or several drives
        return os.getcwd()
    while is_package(root) and is_package(os.path.dirname(root)):
        root = os.path.dirname(root)
    return root


class Packages:
    """The package root of each folder, found once."""

    def __init__(self) -> None:
        self._roots: dict[str, str] = {}

    def root(self, folder: str) -> str:
        """Return the first folder from here upwards that has no `__init__.py`."""
        if folder not in self._roots:
            parent = os.path.dirname(folder)
            inside = is_package(folder) and parent != folder
            self._roots[folder] = self.root(parent) if inside else folder
        return self._roots[folder]

    def origin(self, path: str) -> str:
        """Return a module's path from its package's root, with "/"."""
        return os.path.relpath(path, self.root(os.path.dirname(path))).replace(os.sep, "/")
