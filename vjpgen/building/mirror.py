"""The folder that packages are mirrored under: what is copied there, recorded and removed.

Generated modules go there as they go beside their sources. Everything else that belongs to the
packages is copied, and what was written is recorded in the folder's manifest, before and after.
So whatever cuts a run short, a later one knows the files as vjpgen's.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from vjpgen.building import files
from vjpgen.building.cache import Cache, Caches
from vjpgen.building.contents import contents
from vjpgen.building.copies import Memory, compare_copy, is_as_written, recall, remember
from vjpgen.building.gather import Gathered, UsageError, holds_annotation, unreadable
from vjpgen.building.layout import Layouts, Mirrored, Place
from vjpgen.building.manifest import MANIFEST, Entry, locked, read_manifest, render
from vjpgen.building.outcome import Change, State, What, foreign
from vjpgen.building.plan import clash
from vjpgen.building.projects import Projects, as_shown
from vjpgen.building.sinks import Sink
from vjpgen.building.walk import Found
from vjpgen.compiler import parse_header
from vjpgen.diagnostics import Diagnostic

Entries = dict[str, Entry]


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
        source = _source(self.layout, name, entry)
        hidden = any(_is_inside(source, folder) for folder in self.unread)
        ways = (source, os.path.join(self.layout.out.real, name)) if self.by_place else (source,)
        return not hidden and any(_is_inside(way, path) for way in ways for path in self.paths)


@dataclass
class Survey:
    """How a mirror differs from what should be there.

    Args:
        layout: where files go.
        cache: where it is kept which copies are like their sources.
        memory: what was kept there.
        changes: the copies to be made, by name.
        orphans: what is there without a source, by name.
        fresh: the copies that are as they should be.
        entries: what is to be recorded.
        dropped: what is no longer to be recorded.
        diagnostics: what stands in the way.
    """

    layout: Mirrored
    cache: Cache
    memory: Memory
    changes: dict[str, Change] = field(default_factory=dict)
    orphans: dict[str, Change] = field(default_factory=dict)
    fresh: list[str] = field(default_factory=list)
    entries: Entries = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)
    diagnostics: list[Diagnostic] = field(default_factory=list)
    changed_before: int = 0

    def add_orphan(self, name: str, entry: Entry) -> None:
        """Settle what becomes of a file that has no source any more."""
        place = self.layout.place_of(name)
        try:
            is_intact = is_as_written(place, entry)
        except OSError as error:
            self.diagnostics.append(unreadable(place.shown, error))
            return
        if is_intact is None:
            self.dropped.add(name)
            return
        source = as_shown(_source(self.layout, name, entry))
        self.orphans[name] = Change(
            place.path,
            place.shown,
            source,
            State.ORPHANED,
            None,
            None,
            not is_intact,
            What.COPY,
        )

    def open(self, sink: Sink) -> None:
        """Record what is going to be written, then remove what has no source any more."""
        self.changed_before = sink.changes
        is_new = bool(self.entries) and not os.path.lexists(self.layout.out.path)
        if sink.writes and (self.changes or is_new):
            with self._reported(os.path.join(self.layout.out.shown, MANIFEST)):
                self._record(self._announced)
        for name, change in self.orphans.items():
            with self._reported(change.shown):
                self.diagnostics += sink.accept(change)
                if not change.keep:
                    self.dropped.add(name)
                    self._tidy(os.path.dirname(change.path), sink)

    def close(self, sink: Sink) -> None:
        """Make the copies, then record what is there."""
        for name, change in self.changes.items():
            with self._reported(change.shown, name):
                self.diagnostics += sink.accept(change)
        shown = os.path.join(self.layout.out.shown, MANIFEST)
        with self._reported(shown):
            self._settle(sink, shown)

    def _settle(self, sink: Sink, shown: str) -> None:
        """Bring the manifest up to date; it is spoken of only where nothing else differs."""
        if sink.writes:
            self._remember_copies()
        path = os.path.join(self.layout.out.path, MANIFEST)
        old = files.read_if_there(path)
        new = self._final(read_manifest(self.layout.out.path))
        remember(self.cache, self.layout.out.real, self.memory, new)
        text = render(new) if new else None
        if text == old:
            return
        if sink.changes == self.changed_before and not self.diagnostics and new:
            state = State.MISSING if old is None else State.STALE
            source = self.layout.out.shown
            change = Change(path, shown, source, state, old, text, what=What.RECORD)
            self.diagnostics += sink.accept(change)
        elif sink.writes:
            self._record(self._final)
            self._tidy(self.layout.out.path, sink)

    def _remember_copies(self) -> None:
        """Keep what is known of a copy where no generated module could take its place."""
        for name, entry in self.entries.items():
            known = self.layout.manifest.get(name)
            if known is not None and known.digests and not entry.digests:
                data = files.read_if_there(self.layout.place_of(name).path)
                if data is not None and parse_header(data) is None:
                    self.entries[name] = replace(entry, digests=known.digests)

    def _announced(self, entries: Entries) -> Entries:
        """Everything that may be there at some moment of this run."""
        announced = dict(entries)
        for name, entry in self.entries.items():
            known = entries[name].digests if name in entries else frozenset()
            announced[name] = replace(entry, digests=known | entry.digests)
        return announced

    def _final(self, entries: Entries) -> Entries:
        kept = {name: entry for name, entry in entries.items() if name not in self.dropped}
        return {**kept, **self.entries}

    def _record(self, change: Callable[[Entries], Entries]) -> None:
        """Change the manifest, whatever other runs have recorded meanwhile."""
        folder = self.layout.out.path
        path = os.path.join(folder, MANIFEST)
        os.makedirs(folder, exist_ok=True)
        with locked(folder):
            old = files.read_if_there(path)
            entries = change(read_manifest(folder))
            if not entries:
                files.remove(path)
            elif (new := render(entries)) != old:
                files.write(path, new)

    def _tidy(self, folder: str, sink: Sink) -> None:
        if sink.writes:
            files.remove_empty_folders(folder, self.layout.out.path)

    @contextmanager
    def _reported(self, shown: str, name: str | None = None) -> Iterator[None]:
        """Report what the operating system refuses; the file is not recorded then."""
        try:
            yield
        except OSError as error:
            self.diagnostics.append(unreadable(shown, error))
            if name is not None:
                self.entries.pop(name)


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
    if items or any(_is_inside(layout.out.real, path) for path in mirror.paths):
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


def _source(layout: Mirrored, name: str, entry: Entry) -> str:
    """Return the path of the source of a recorded file."""
    return os.path.normpath(os.path.join(layout.out.real, entry.root, name))


def _is_inside(path: str, folder: str) -> bool:
    return os.path.join(path, "").startswith(os.path.join(folder, ""))
