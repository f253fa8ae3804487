"""What is known of files that have not changed, so that they need not be read again.

One that was changed so lately that a further change might not show is not remembered.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from vjpgen.building.signatures import is_settled, signature

Folders = dict[str, dict[str, str]]


class Kind(Enum):
    """What the bytes of a file are to vjpgen."""

    PLAIN = "plain"
    ANNOTATED = "annotated"
    LOOKS_ANNOTATED = "looks annotated"


@dataclass(frozen=True)
class Index:
    """The kinds of the files of one project.

    Args:
        folders: what an earlier run knew: by folder and name, a signature and a kind.
        learnt: what this run has found out, likewise.
        now: when this run began to read files, in nanoseconds.
    """

    folders: Folders = field(default_factory=dict)
    learnt: Folders = field(default_factory=dict)
    now: int = field(default_factory=time.time_ns)

    def known(self, folder: str) -> Mapping[str, str]:
        """Return what is known of the files of a folder, to be given to `kind_of`."""
        return self.folders.get(folder, {})

    def learn(self, path: str, status: os.stat_result, kind: Kind) -> None:
        """Remember the kind of a file that had this status before it was read."""
        if is_settled(status, self.now):
            folder, name = os.path.split(path)
            self.learnt.setdefault(folder, {})[name] = f"{signature(status)} {kind.value}"

    def merged(self, seen: Mapping[str, Iterable[str]]) -> Folders:
        """Return all that is known, without files and folders that are gone.

        Args:
            seen: the names of the files in each folder that this run has looked at.
        """
        merged: Folders = {}
        for folder in {**self.folders, **self.learnt}:
            known = {**self.folders.get(folder, {}), **self.learnt.get(folder, {})}
            if folder in seen:
                known = {name: known[name] for name in seen[folder] if name in known}
            elif not os.path.isdir(folder):
                known = {}
            if known:
                merged[folder] = known
        return merged


def kind_of(entry: str | None, status: os.stat_result) -> Kind | None:
    """Return the kind of a file whose status is still the known one."""
    if entry is None or not entry.startswith(signature(status)):
        return None
    return _KINDS.get(entry[len(signature(status)) + 1 :])


_KINDS = {kind.value: kind for kind in Kind}
