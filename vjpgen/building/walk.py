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
        project: the project that it belongs to.
        ignored: whether a `.gitignore` names it; then it is no source, but may be an output.
        named: whether the user named it outright.
    """

    path: str
    shown: str
    project: Project
    ignored: bool = False
    named: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """What two ways of naming one file have in common."""
        folder, name = os.path.split(self.path)
        return os.path.realpath(folder), name


def walk(start: str, shown: str, projects: Projects, on_error: OnError) -> Iterator[Found]:
    """Yield the Python files under a folder, sorted within each folder.

    Links to folders are not followed, so that no loop is entered and no file is found twice.

    Args:
        start: the folder's absolute path.
        shown: its path as the user would write it, "" for the current folder.
        projects: finds the project of a folder.
        on_error: is told of a folder that cannot be read.
    """
    above = ignores_above(start, projects.of(start).root)
    waiting = [(start, shown, above)]
    while waiting:
        folder, name, ignores = waiting.pop()
        try:
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=_name)
        except OSError as error:
            on_error(name or ".", error)
            continue
        here = ignores.inside(folder) if any(e.name == ".gitignore" for e in entries) else ignores
        project = projects.of(folder)
        yield from _files(entries, name, project, here)
        folders = [entry for entry in entries if _is_entered(entry, project, here)]
        waiting += [(e.path, os.path.join(name, e.name), here) for e in reversed(folders)]


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name


def _files(
    entries: list[os.DirEntry[str]], shown: str, project: Project, ignores: Ignores
) -> Iterator[Found]:
    for entry in entries:
        if entry.name.endswith(".py") and _is_file(entry) and not project.excludes(entry.path):
            yield Found(
                entry.path,
                os.path.join(shown, entry.name),
                project,
                ignored=ignores.ignores(entry.path),
            )


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link that leads to itself
        return False


def _is_entered(entry: os.DirEntry[str], project: Project, ignores: Ignores) -> bool:
    if not entry.is_dir(follow_symlinks=False):
        return False
    path = entry.path + os.sep
    if project.excludes(path) or ignores.ignores(path):
        return False
    return not is_usually_passed_over(entry.path)
