"""Finding the Python files of a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from vjpgen.building.ignores import Ignores, ignores_above, is_usually_passed_over
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

    Args:
        start: the folder's absolute path.
        shown: its path as the user would write it, "" for the current folder.
        projects: finds the project of a folder.
        on_error: is told of a folder that cannot be read.
    """
    above = ignores_above(start, projects.of(start).root)
    is_named = projects.of(start).excludes(start + os.sep)
    waiting = [(start, shown, os.path.realpath(start), above)]
    while waiting:
        folder, name, real, ignores = waiting.pop()
        try:
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=_name)
        except OSError as error:
            on_error(name or ".", error)
            continue
        here = ignores.inside(folder) if any(e.name == ".gitignore" for e in entries) else ignores
        project = projects.of(folder)
        kept = [e for e in entries if is_named or not _is_excluded(e, project)]
        yield from _files(kept, name, real, project, here)
        folders = [entry for entry in kept if _is_entered(entry, here)]
        waiting += [_below(entry, name, real, here) for entry in reversed(folders)]


def _below(
    entry: os.DirEntry[str], shown: str, real: str, ignores: Ignores
) -> tuple[str, str, str, Ignores]:
    name = entry.name
    return entry.path, os.path.join(shown, name), os.path.join(real, name), ignores


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name


def _files(
    entries: list[os.DirEntry[str]], shown: str, real: str, project: Project, ignores: Ignores
) -> Iterator[Found]:
    for entry in entries:
        if entry.name.endswith(".py") and _is_file(entry):
            yield Found(
                entry.path,
                os.path.join(shown, entry.name),
                real,
                project,
                ignored=ignores.ignores(entry.path),
            )


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link that leads to itself
        return False


def _is_entered(entry: os.DirEntry[str], ignores: Ignores) -> bool:
    if not entry.is_dir(follow_symlinks=False) or ignores.ignores(entry.path + os.sep):
        return False
    return not is_usually_passed_over(entry.path)


def _is_excluded(entry: os.DirEntry[str], project: Project) -> bool:
    is_folder = entry.is_dir(follow_symlinks=False)
    if not (is_folder or entry.name.endswith(".py")):
        return False
    return project.excludes(entry.path + os.sep * is_folder)
