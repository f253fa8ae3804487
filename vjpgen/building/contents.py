"""Finding every file that is mirrored: modules, and all else that belongs to a package."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from vjpgen.building.files import is_temporary
from vjpgen.building.gather import is_excluded, named_file
from vjpgen.building.ignores import Ignores, ignores_above, is_usually_passed_over
from vjpgen.building.layout import Layouts
from vjpgen.building.outputs import is_output, lies_in_output
from vjpgen.building.paths import is_inside
from vjpgen.building.projects import Project, Projects
from vjpgen.building.walk import Found

_MODULES = (".py", ".pyi")
_NO_CONTENT = (".pyc", ".pyo")
_OF_VERSION_CONTROL = frozenset(
    {".git", ".gitattributes", ".gitignore", ".gitmodules", ".hgignore"}
)
_OF_INSTALLERS = (".egg-info", ".dist-info")
_MOST_LINKS = 2

OnFolder = Callable[[str], None]


def contents(
    paths: Iterable[str],
    projects: Projects,
    layouts: Layouts,
    on_error: OnFolder,
    *,
    force_exclude: bool = False,
) -> tuple[Found, ...]:
    """Return every file under the paths that is mirrored, each once.

    These are the modules of projects that have an out-dir, and the other files of their packages.
    What a package holds through a link is part of it; so are folders that a walk for sources
    passes over only because of their names, as `dist`.

    Args:
        paths: folders, and Python files; that they are there is known.
        projects: finds the project of a folder.
        layouts: finds the layout of a project.
        on_error: is told the path of a folder that cannot be read.
        force_exclude: whether `exclude` holds for what is named outright, too.
    """
    walk = _Walk(projects, layouts, on_error)
    found: dict[str, Found] = {}
    for path in paths:
        absolute, shown = os.path.abspath(path), os.path.normpath(path)
        is_folder = os.path.isdir(path)
        project = projects.of(absolute if is_folder else os.path.dirname(absolute))
        if lies_in_output(absolute, project):
            continue
        if force_exclude and is_excluded(absolute + os.sep * is_folder, project):
            continue
        if is_folder:
            files = walk.files(absolute, "" if shown == "." else shown)
        else:
            files = [named_file(absolute, shown, project)] if project.out else []
        found.update((file.path, file) for file in files)
    return tuple(found.values())


@dataclass(frozen=True)
class _Place:
    """A folder on the way.

    Args:
        path: its absolute path.
        shown: its path as the user would write it, "" for the current folder.
        real: its path, links seen through.
        ignores: what the `.gitignore` files above it say.
        links: the real folders from which links were followed on the way to it.
    """

    path: str
    shown: str
    real: str
    ignores: Ignores
    links: tuple[str, ...] = ()

    def below(self, entry: os.DirEntry[str]) -> _Place:
        shown, real = os.path.join(self.shown, entry.name), os.path.join(self.real, entry.name)
        if not entry.is_symlink():
            return replace(self, path=entry.path, shown=shown, real=real)
        links, real = (*self.links, self.real), os.path.realpath(entry.path)
        return replace(self, path=entry.path, shown=shown, real=real, links=links)

    def is_endless(self) -> bool:
        """Whether links have led back to where they were followed, or too far."""
        back = any(is_inside(each, self.real) for each in self.links)
        return back or len(self.links) > _MOST_LINKS


@dataclass(frozen=True)
class _Walk:
    projects: Projects
    layouts: Layouts
    on_error: OnFolder

    def files(self, start: str, shown: str) -> Iterator[Found]:
        above = ignores_above(start, self.projects.of(start).root)
        is_named = self.projects.of(start).excludes(start + os.sep)
        waiting = [_Place(start, shown, os.path.realpath(start), above)]
        while waiting:
            place = waiting.pop()
            project = self.projects.of(place.path)
            entries = self._entries(place)
            if is_output(place.real, {entry.name for entry in entries}, project):
                continue
            here = replace(place, ignores=place.ignores.inside(place.path))
            kept = [each for each in entries if is_named or not _is_excluded(each, project)]
            inside = project.out is not None and self.layouts.inside_package(place.path, project)
            if project.out is not None:
                yield from _files(kept, here, project, inside=inside)
            folders = [each for each in reversed(kept) if _is_entered(each, here, inside=inside)]
            below = [here.below(each) for each in folders]
            waiting += [each for each in below if not each.is_endless()]

    def _entries(self, place: _Place) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(place.path) as listing:
                return sorted(listing, key=lambda entry: entry.name)
        except FileNotFoundError:  # removed meanwhile
            return []
        except OSError:
            self.on_error(place.path)
            return []


def _is_excluded(entry: os.DirEntry[str], project: Project) -> bool:
    return project.excludes(entry.path + os.sep * _is(entry, os.DirEntry.is_dir))


def _is(entry: os.DirEntry[str], kind: Callable[[os.DirEntry[str]], bool]) -> bool:
    try:
        return kind(entry)
    except OSError:  # a link that leads to itself
        return False


def _files(
    entries: Iterable[os.DirEntry[str]], place: _Place, project: Project, *, inside: bool
) -> Iterator[Found]:
    for entry in entries:
        if not (inside or entry.name.endswith(_MODULES)) or not _is_content(entry.name):
            continue
        if _is(entry, os.DirEntry.is_file) and not place.ignores.ignores(entry.path):
            shown = os.path.join(place.shown, entry.name)
            yield Found(entry.path, shown, place.real, project)


def _is_content(name: str) -> bool:
    is_none = name.endswith(_NO_CONTENT) or name in _OF_VERSION_CONTROL
    return not (is_none or is_temporary(name))


def _is_entered(entry: os.DirEntry[str], place: _Place, *, inside: bool) -> bool:
    if not _is(entry, os.DirEntry.is_dir) or (entry.is_symlink() and not inside):
        return False
    if place.ignores.ignores(entry.path + os.sep) or entry.name.endswith(_OF_INSTALLERS):
        return False
    return not is_usually_passed_over(entry.path, in_package=inside)
