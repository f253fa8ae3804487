"""All the places that the outcome of a build depends on."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from vjpgen.building.cache import Caches
from vjpgen.building.manifest import MANIFEST
from vjpgen.building.paths import SETTINGS, upwards
from vjpgen.building.sources import ProjectSources
from vjpgen.building.stamp import own_places

_ABOVE = (*SETTINGS, "__init__.py", MANIFEST, os.path.join(".git", "config"))
_BELOW = ("pyvenv.cfg", "__init__.py", MANIFEST)


def places_of(paths: Iterable[str], caches: Caches, config: str | None) -> dict[str, list[str]]:
    """Return the names that were looked at, present or not, by their folder; "" for any folder.

    Args:
        paths: what was built.
        caches: what was looked at.
        config: the configuration that the command line names.
    """
    places = own_places()
    walked = {folder.path: folder for folder in caches.walked}
    for path, folder in walked.items():
        unwalked = [name for name in folder.below if os.path.join(path, name) not in walked]
        marks = [os.path.join(name, mark) for name in unwalked for mark in _BELOW]
        places[path] = [entry.name for entry in folder.entries] + [*folder.settings, *marks]
    starts = map(os.path.abspath, (os.curdir, *paths))
    named = [os.path.abspath(config)] if config else []
    others = {*_around(walked, starts), *_read(caches.sources), *named}
    return {**places, "": sorted(others)}


def _around(walked: Iterable[str], starts: Iterable[str]) -> Iterator[str]:
    """Yield what could stand above the folders that were walked, or keep others from that.

    Args:
        walked: the folders that were walked.
        starts: the folders that settings are looked for from, walked or not.
    """
    known = set(walked)
    tops = {path for path in known if os.path.dirname(path) not in known}
    around = {
        folder
        for path in {*tops, *starts}
        for real in (path, os.path.realpath(path))
        for folder in upwards(real)
    }
    for folder in around - known:
        yield from (os.path.join(folder, name) for name in _ABOVE)
        git = os.path.join(folder, ".git")
        if not os.path.isdir(git):  # in a worktree a file; of a folder, only its being there counts
            yield git


def _read(sources: Iterable[ProjectSources]) -> Iterator[str]:
    """Yield where modules were looked for that others import."""
    for each in sources:
        for module in each.texts:
            yield from each.paths(module)
