"""Finding the Python files of a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from vjpgen.building.ignores import Ignores, ignores_above, is_usually_passed_over
from vjpgen.building.outputs import is_output
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


def walk(start: str, shown: str, projects: Projects, on_error: OnError) -> Iterator[Found]:
    """Yield the Python files under a folder, sorted within each folder.

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
        kept = [each for each in entries if is_named or not _is_excluded(each, project)]
        here = replace(place, ignores=place.ignores.inside(place.path))
        yield from _files(kept, here, project)
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


def _files(entries: list[os.DirEntry[str]], place: _Place, project: Project) -> Iterator[Found]:
    for entry in entries:
        if entry.name.endswith(".py") and _is_file(entry):
            shown = os.path.join(place.shown, entry.name)
            ignored = place.ignores.ignores(entry.path)
            yield Found(entry.path, shown, place.real, project, ignored)


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link that leads to itself
        return False


def _is_entered(entry: os.DirEntry[str], place: _Place) -> bool:
    if not entry.is_dir(follow_symlinks=False) or place.ignores.ignores(entry.path + os.sep):
        return False
    return not is_usually_passed_over(entry.path)


def _is_excluded(entry: os.DirEntry[str], project: Project) -> bool:
    is_folder = entry.is_dir(follow_symlinks=False)
    if not (is_folder or entry.name.endswith(".py")):
        return False
    return project.excludes(entry.path + os.sep * is_folder)
