"""Finding the Python files of a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from vjpgen.building.ignores import (
    NEVER_WALKED,
    Ignores,
    ignores_above,
    is_usually_passed_over,
)
from vjpgen.building.outputs import is_output
from vjpgen.building.paths import SETTINGS
from vjpgen.building.projects import Project, Projects

OnError = Callable[[str, OSError], None]


@dataclass(frozen=True)
class Found:
    """One Python file.

    Args:
        path: its absolute path.
        shown: its path as the user would write it.
        folder: the absolute path of its folder, links seen through.
        project: the project that it belongs to.
        ignored: whether a `.gitignore` names it; then it is no source, but may be an output.
        named: whether the user named it outright.
    """

    path: str
    shown: str
    folder: str
    project: Project
    ignored: bool = False
    named: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """What two ways of naming one file have in common."""
        return self.folder, os.path.basename(self.path)


@dataclass(frozen=True)
class Folder:
    """One folder of a walk, with its Python files.

    Args:
        path: its absolute path.
        shown: its path as the user would write it, "" for the current folder.
        real: its absolute path, links seen through.
        project: the project that it belongs to.
        ignores: the `.gitignore` files that hold in it.
        entries: its Python files by name, sorted; what is ignored or excluded, too.
        below: the names of the folders in it that could be walked.
        settings: the names of what else in it the walk depends on.
        is_whole: whether what the configuration excludes counts all the same.
    """

    path: str
    shown: str
    real: str
    project: Project
    ignores: Ignores
    entries: tuple[os.DirEntry[str], ...]
    below: tuple[str, ...]
    settings: tuple[str, ...]
    is_whole: bool

    def found(self, entry: os.DirEntry[str]) -> Found | None:
        """Return one of its files; None where the configuration excludes it."""
        if not _is_file(entry) or not (self.is_whole or not self.project.excludes(entry.path)):
            return None
        shown = os.path.join(self.shown, entry.name)
        ignored = self.ignores.ignores(entry.path)
        return Found(entry.path, shown, self.real, self.project, ignored)

    def files(self) -> Iterator[Found]:
        """Yield its files, without those that the configuration excludes."""
        return (file for entry in self.entries if (file := self.found(entry)) is not None)


def walk(start: str, shown: str, projects: Projects, on_error: OnError) -> Iterator[Folder]:
    """Yield a folder and those below it, sorted.

    A folder that the configuration excludes is walked all the same when it is the start: it was
    named. Links to folders are not followed, so that no loop is entered and no file found twice.
    A folder that packages are mirrored under holds no sources.

    Args:
        start: the folder's absolute path.
        shown: its path as the user would write it, "" for the current folder.
        projects: finds the project of a folder.
        on_error: is told of a folder that cannot be read.
    """
    above = ignores_above(start, projects.of(start).root)
    is_named = projects.of(start).excludes(start + os.sep)
    waiting = [_Place(start, shown, os.path.realpath(start), above)]
    while waiting:
        place = waiting.pop()
        project = projects.of(place.path)
        entries = _entries(place, on_error)
        if is_output(place.real, {entry.name for entry in entries}, project):
            continue
        here = replace(place, ignores=place.ignores.inside(place.path))
        folders = [each for each in entries if each.is_dir(follow_symlinks=False)]
        below = [each for each in folders if each.name not in NEVER_WALKED]
        yield _folder(here, project, entries, below, is_named)
        kept = [each for each in below if is_named or not project.excludes(each.path + os.sep)]
        waiting += [here.below(each) for each in reversed(kept) if _is_entered(each, here)]


@dataclass(frozen=True)
class _Place:
    """A folder on the way: its path, how it is shown, links seen through, and what is ignored."""

    path: str
    shown: str
    real: str
    ignores: Ignores

    def below(self, entry: os.DirEntry[str]) -> _Place:
        name = entry.name
        shown, real = os.path.join(self.shown, name), os.path.join(self.real, name)
        return _Place(entry.path, shown, real, self.ignores)


def _folder(
    place: _Place,
    project: Project,
    entries: Iterable[os.DirEntry[str]],
    below: Iterable[os.DirEntry[str]],
    is_named: bool,
) -> Folder:
    return Folder(
        path=place.path,
        shown=place.shown,
        real=place.real,
        project=project,
        ignores=place.ignores,
        entries=tuple(entry for entry in entries if entry.name.endswith(".py")),
        below=tuple(entry.name for entry in below),
        settings=tuple(entry.name for entry in entries if entry.name in SETTINGS),
        is_whole=is_named,
    )


def _entries(place: _Place, on_error: OnError) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(place.path) as listing:
            return sorted(listing, key=_name)
    except FileNotFoundError:  # removed meanwhile
        return []
    except OSError as error:
        on_error(place.shown or ".", error)
        return []


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link that leads to itself
        return False


def _is_entered(entry: os.DirEntry[str], place: _Place) -> bool:
    return not (place.ignores.ignores(entry.path + os.sep) or is_usually_passed_over(entry.path))
