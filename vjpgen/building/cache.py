"""What earlier runs found out, one folder a project in the user's cache folder.

    CACHEDIR.TAG               so that backups leave it out
    PROJECT/index              which files have not changed since they were looked at
    PROJECT/results/NAME       what compiling one source gave
    PROJECT/NAME               what else there is to remember

Everything in it can be lost at any time; an entry that is damaged, or that another version of
vjpgen, libcst or Python wrote, counts as lost. It does not lie in the project: what a build finds
there could be anyone's, and a check leaves no trace.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from vjpgen.building.cachedir import LONGEST_SECONDS, cache_folder
from vjpgen.building.files import read, remove, write
from vjpgen.building.index import Folders, Index
from vjpgen.building.sources import ProjectSources
from vjpgen.building.walk import Folder
from vjpgen.fingerprint import fingerprint

_DIGEST_SIZE = 32
_LAYOUT = 2
_RESULTS = "results"
_TAG = b"Signature: 8a477f597d28d172789f06886806bc55\n# Written by vjpgen; may be removed.\n"


@dataclass(frozen=True)
class Cache:
    """Where a project's index and results are kept.

    Args:
        folder: an absolute path; it is made when there is something to keep. None keeps nothing.
        version: what every entry depends on besides its own name and record.
    """

    folder: str | None
    version: str

    @cached_property
    def index(self) -> Index:
        """Return what is known of the project's files."""
        loaded = self._load("index")
        return Index() if loaded is None else Index(_folders(loaded[0]))

    def load(self, name: str) -> tuple[Any, bytes] | None:
        """Return what was stored under a name, if it is there and whole."""
        return self._load(_result_path(name))

    def store(self, name: str, record: Any, output: bytes) -> None:
        """Keep a record that JSON can hold, and some bytes, under a name."""
        self._store(_result_path(name), record, output)

    def recall(self, name: str) -> Any:
        """Return what was last remembered under a name; None for nothing."""
        loaded = self._load(_short_digest(name))
        return None if loaded is None else loaded[0]

    def remember(self, name: str, record: Any) -> None:
        """Keep a record that JSON can hold, whatever becomes of results."""
        self._store(_short_digest(name), record, b"")

    def close(self, folders: Iterable[Folder], names: Iterable[str] | None) -> None:
        """Keep the index, and drop what no source stands behind any more.

        Args:
            folders: those that were looked at.
            names: the names of all results of the project; None where they are not known.
        """
        if self.folder is None or not os.path.isdir(self.folder):  # nothing was worth keeping
            return
        if self.index.learnt:
            seen = {each.path: [entry.name for entry in each.entries] for each in folders}
            self._store("index", self.index.merged(seen), b"")
            _forget_projects(os.path.dirname(self.folder))
        if names is not None:
            _prune(os.path.join(self.folder, _RESULTS), set(map(_short_digest, names)))

    def _load(self, name: str) -> tuple[Any, bytes] | None:
        if self.folder is None:
            return None
        try:
            data = read(os.path.join(self.folder, name))
        except OSError:
            return None
        digest, content = data[:_DIGEST_SIZE], data[_DIGEST_SIZE:]
        if self._digest(content) != digest:
            return None
        record, _, output = content.partition(b"\n")
        return json.loads(record), output

    def _store(self, name: str, record: Any, output: bytes) -> None:
        if self.folder is None:
            return
        content = json.dumps(record).encode() + b"\n" + output
        with suppress(OSError):  # a cache that cannot be written is none
            _make(self.folder)
            write(os.path.join(self.folder, name), self._digest(content) + content)

    def _digest(self, content: bytes) -> bytes:
        return hashlib.sha256(self.version.encode() + content).digest()


def _make(folder: str) -> None:
    results = os.path.join(folder, _RESULTS)
    if os.path.isdir(results):
        return
    os.makedirs(results, exist_ok=True)
    write(os.path.join(os.path.dirname(folder), "CACHEDIR.TAG"), _TAG)


def _forget_projects(base: str) -> None:
    """Remove what is kept of projects in which no build has found anything new for long."""
    longest = time.time() - LONGEST_SECONDS
    with suppress(OSError):
        for name in os.listdir(base):
            index = os.path.join(base, name, "index")
            if os.path.isfile(index) and os.stat(index).st_mtime < longest:
                _prune(os.path.join(base, name, _RESULTS), set())
                _prune(os.path.join(base, name), {_RESULTS})
                os.rmdir(os.path.join(base, name, _RESULTS))
                os.rmdir(os.path.join(base, name))


def _prune(folder: str, kept: set[str]) -> None:
    with suppress(OSError):
        for name in os.listdir(folder):
            if name not in kept:
                remove(os.path.join(folder, name))


def _result_path(name: str) -> str:
    return os.path.join(_RESULTS, _short_digest(name))


def _short_digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:32]


def _folders(record: Any) -> Folders:
    return record if isinstance(record, dict) else {}


class Caches:
    """The cache of each project, by the absolute path of its root.

    Args:
        enabled: whether anything is kept at all.

    Attributes:
        walked: every folder that was looked at with their help.
        sources: the texts of projects, each with what was looked for in it.
    """

    def __init__(self, *, enabled: bool) -> None:
        self.enabled = enabled
        self.walked: list[Folder] = []
        self.sources: list[ProjectSources] = []
        self._known: dict[str, Cache] = {}

    def of(self, root: str) -> Cache:
        """Return the cache of one project."""
        if root not in self._known:
            self._known[root] = self._open(root)
        return self._known[root]

    def opened(self) -> list[tuple[str, Cache]]:
        """Return the caches that were asked for, each with its project's root."""
        return list(self._known.items())

    def _open(self, root: str) -> Cache:
        if not self.enabled:
            return Cache(None, "")
        folder = os.path.join(cache_folder(), f"{os.path.basename(root)}-{_short_digest(root)}")
        return Cache(folder, f"{_LAYOUT} {fingerprint()}")
