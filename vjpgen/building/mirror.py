"""The folder that packages are mirrored under: what is copied there, recorded and removed.

Generated modules go there as they go beside their sources. Everything else that belongs to the
packages is copied, and what was written is recorded in the folder's manifest.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Container, Iterable
from dataclasses import dataclass, replace

from vjpgen.building import files
from vjpgen.building.cache import Cache, Caches
from vjpgen.building.contents import contents
from vjpgen.building.copies import compare_copy, recall
from vjpgen.building.gather import Gathered, UsageError, holds_annotation, unreadable
from vjpgen.building.layout import Layouts, Mirrored, Place
from vjpgen.building.manifest import MANIFEST, Entry
from vjpgen.building.outcome import Change, State, What, foreign
from vjpgen.building.paths import is_inside
from vjpgen.building.plan import clash
from vjpgen.building.projects import Projects, as_shown
from vjpgen.building.survey import Survey
from vjpgen.building.walk import Found
from vjpgen.compiler import parse_header


@dataclass(frozen=True)
class Item:
    """One file of a package on its way to the mirror.

    Args:
        file: the file.
        name: its path in the mirror, with "/".
        place: where it goes.
        root: the folder that it is imported from, seen from the mirror, with "/".
    """

    file: Found
    name: str
    place: Place
    root: str


@dataclass(frozen=True)
class Mirror:
    """One folder that packages are mirrored under, and what belongs there.

    Args:
        layout: where files go.
        paths: what this run is about, absolute, links seen through.
        cache: where it is kept which copies are like their sources.
        modules: the annotated sources, whose generated modules go there.
        copies: all other files.
        clashing: the files, links seen through, that more than one of them would write.
        unread: folders that could not be read, absolute.
        by_place: whether the paths may name what lies in the mirror, too.
    """

    layout: Mirrored
    paths: tuple[str, ...]
    cache: Cache
    modules: tuple[Item, ...] = ()
    copies: tuple[Item, ...] = ()
    clashing: frozenset[str] = frozenset()
    unread: tuple[str, ...] = ()
    by_place: bool = False

    def survey(self) -> Survey:
        """Compare the folder with what should be there; nothing is changed."""
        memory = recall(self.cache, self.layout.out.real, time.time_ns())
        survey = Survey(self.layout, self.cache, memory)
        for item in self.modules:
            survey.entries[item.name] = Entry(item.root)
        for item in self.copies:
            self._look_at(item, survey)
        expected = {item.name for item in (*self.modules, *self.copies)}
        for name, entry in self.layout.manifest.items():
            if name not in expected and self._is_about(name, entry):
                survey.add_orphan(name, entry)
        return survey

    def _look_at(self, item: Item, survey: Survey) -> None:
        if item.place.target in self.clashing:
            survey.diagnostics.append(clash(item.file, item.place))
            return
        try:
            state, digest = compare_copy(item.name, item.file.path, item.place, survey.memory)
        except OSError as error:
            if os.path.lexists(item.file.path):  # else removed meanwhile
                survey.diagnostics.append(unreadable(item.file.shown, error))
            return
        place, shown = item.place, item.file.shown
        change = Change(
            place.path, place.shown, shown, state, None, None, False, What.COPY, item.file.path
        )
        if state is State.FOREIGN:
            survey.diagnostics.append(foreign(change, self.layout.advice))
            return
        survey.entries[item.name] = Entry(item.root, frozenset({digest}))
        if state is State.FRESH:
            survey.fresh.append(place.shown)
        else:
            survey.changes[item.name] = change

    def _is_about(self, name: str, entry: Entry) -> bool:
        """Whether this run is about a file's source, and could see that it is gone."""
        source = self.layout.source_of(name, entry)
        hidden = any(is_inside(source, folder) for folder in self.unread)
        ways = (source, os.path.join(self.layout.out.real, name)) if self.by_place else (source,)
        return not hidden and any(is_inside(way, path) for way in ways for path in self.paths)


def find_mirrors(
    paths: Iterable[str],
    projects: Projects,
    layouts: Layouts,
    gathered: Gathered,
    caches: Caches,
    *,
    force_exclude: bool = False,
) -> tuple[Mirror, ...]:
    """Return the folders that the packages under the paths are mirrored under.

    Args:
        paths: what the run is about; it has been gathered, so its projects are known.
        projects: finds the project of a folder.
        layouts: finds the layout of a project.
        gathered: what was found under the paths.
        caches: tell which files need not be read.
        force_exclude: whether `exclude` holds for what is named outright, too.

    Raises:
        UsageError: where a folder cannot be one to mirror packages under.
    """
    mirrors = empty_mirrors(paths, projects, layouts, caches)
    if not mirrors:
        return ()
    unread: list[str] = []
    found = contents(paths, projects, layouts, unread.append, force_exclude=force_exclude)
    annotated = {each.file.path: each.file for each in gathered.sources if each.is_annotated}
    every = {file.path: file for file in found} | annotated
    return tuple(_filled(mirror, every.values(), annotated, tuple(unread)) for mirror in mirrors)


def empty_mirrors(
    paths: Iterable[str],
    projects: Projects,
    layouts: Layouts,
    caches: Caches,
    *,
    by_place: bool = False,
) -> tuple[Mirror, ...]:
    """Return the folders that packages are mirrored under, as if no source were left.

    Args:
        paths: what the run is about; it has been gathered, so its projects are known.
        projects: finds the project of a folder.
        layouts: finds the layout of a project.
        caches: tell which files need not be read.
        by_place: whether the paths may name what lies in the mirror, too.

    Raises:
        UsageError: where a folder cannot be one to mirror packages under.
    """
    about = tuple(os.path.realpath(path) for path in paths)
    outs = [(project.out, project) for project in projects.met() if project.out is not None]
    found = {out.path: (out, project) for out, project in reversed(outs)}
    return tuple(
        Mirror(layouts.mirrored(*each), about, caches.of(each[1].root), by_place=by_place)
        for each in found.values()
    )


def _filled(
    mirror: Mirror, found: Iterable[Found], annotated: Container[str], unread: tuple[str, ...]
) -> Mirror:
    """Return a mirror with the files that belong there."""
    layout = mirror.layout
    every = [
        _item(file, layout)
        for file in found
        if file.project.out is not None and file.project.out.path == layout.out.path
    ]
    items = {(item.file.key, item.name): item for item in every}.values()
    items = sorted(items, key=lambda item: item.name)
    modules = tuple(item for item in items if item.file.path in annotated)
    copies = tuple(item for item in items if item.file.path not in annotated)
    counts = Counter(item.place.target for item in items)
    clashing = frozenset(path for path, count in counts.items() if count > 1)
    filled = replace(mirror, modules=modules, copies=copies, clashing=clashing, unread=unread)
    if items or any(is_inside(layout.out.real, path) for path in mirror.paths):
        _refuse_sources(layout, {item.place.path for item in items})
    return filled


def _item(file: Found, layout: Mirrored) -> Item:
    name = layout.name(file.path, file.project)
    return Item(file, name, layout.place_of(name), layout.root_of(file.path, file.project))


def _refuse_sources(layout: Mirrored, expected: set[str]) -> None:
    """Refuse a folder in which somebody keeps sources, when it is first used.

    Raises:
        UsageError: where an annotated file lies in it that is in the way of none.
    """
    out = layout.out
    if os.path.lexists(os.path.join(out.path, MANIFEST)):
        return
    for folder, _, names in os.walk(out.path):
        for name in sorted(names):
            path = os.path.join(folder, name)
            if name.endswith(".py") and path not in expected and _is_source(path):
                shown = as_shown(path)
                raise UsageError(
                    f"`--out-dir`: {out.shown} holds a source, {shown}; name a folder of its own"
                )


def _is_source(path: str) -> bool:
    try:
        data = files.read(path)
    except OSError:
        return False
    return parse_header(data) is None and holds_annotation(data)
