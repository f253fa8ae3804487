"""How a mirror differs from what should be there, and putting that right.

What was written is recorded before and after, so that whatever cuts a run short, a later one knows
the files as vjpgen's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from vjpgen.building import files
from vjpgen.building.cache import Cache
from vjpgen.building.copies import Memory, is_as_written, remember
from vjpgen.building.gather import unreadable
from vjpgen.building.layout import Mirrored
from vjpgen.building.manifest import MANIFEST, Entry, locked, read_manifest, render
from vjpgen.building.outcome import Change, State, What
from vjpgen.building.projects import as_shown
from vjpgen.building.sinks import Sink
from vjpgen.compiler import parse_header
from vjpgen.diagnostics import Diagnostic

Entries = dict[str, Entry]


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
        source = as_shown(self.layout.source_of(name, entry))
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
            self._announce()
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

    def _announce(self) -> None:
        """Record what may be there from now on; no copy is made that is not recorded."""
        try:
            self._record(self._announced)
        except OSError as error:
            shown = os.path.join(self.layout.out.shown, MANIFEST)
            self.diagnostics.append(unreadable(shown, error))
            for name in self.changes:
                self.entries.pop(name)
            self.changes.clear()

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
