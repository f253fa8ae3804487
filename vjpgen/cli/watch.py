"""`vjpgen build --watch`: build, and again whenever a file that matters changes.

The folders of the projects are watched. What lies outside them and matters all the same, as the
configuration or a `.gitignore` further up, is looked at every now and then. Changes during a build
lead to another one, but for what the build itself wrote.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from vjpgen.building.files import is_temporary, read
from vjpgen.building.gather import UsageError, holds_annotation
from vjpgen.building.ignores import is_usually_passed_over
from vjpgen.building.paths import MARKER, SETTINGS, is_below, project_root, upwards
from vjpgen.building.projects import Projects
from vjpgen.building.scope import Scope
from vjpgen.cli.output import Voice
from vjpgen.compiler import parse_header
from vjpgen.config import Config, ConfigError
from vjpgen.diagnostics.text import shown

if TYPE_CHECKING:
    from watchfiles import Change

Changes = set[tuple["Change", str]]
OpenScope = Callable[[], Scope]
Build = Callable[[], object]

_SETTLED_MS = 100
_LONGEST_MS = 3000
_IDLE_MS = 250
_CLOCK_SECONDS = 0.05


def watch_builds(
    paths: tuple[str, ...], config: str | None, open_scope: OpenScope, build: Build, voice: Voice
) -> int:
    """Build until Ctrl-C, which is a good end; return the exit status.

    Args:
        paths: the paths of the command line.
        config: the file given by `--config`, or None.
        open_scope: settles anew what to work on.
        build: builds once and prints what it finds.
        voice: says what changed.

    Raises:
        UsageError: where watchfiles is not installed or a path does not exist.
    """
    _need_watchfiles()
    for path in paths:
        if not os.path.lexists(path):
            raise UsageError(f"{path}: no such file or folder")
    watcher = Watcher(paths, config, open_scope, build, voice)
    try:
        while True:
            watcher.follow()
    except KeyboardInterrupt:
        return 0


def _need_watchfiles() -> None:
    try:
        import watchfiles  # noqa: F401
    except ImportError as error:
        advice = "install it with `pip install 'vjpgen[watch]'`"
        raise UsageError(f"`--watch` needs watchfiles; {advice}") from error


@dataclass(frozen=True)
class View:
    """What is watched, and how a change to it is judged.

    Args:
        places: the folders that a build looks into, links seen through.
        outside: files elsewhere that decide what is built, whether they are there or not.
        projects: finds the configuration of a folder; None where that is broken.
        built: when the last build began and ended, in seconds since the epoch.
    """

    places: tuple[str, ...]
    outside: tuple[str, ...]
    projects: Projects | None
    built: list[float] = field(default_factory=lambda: [0.0, 0.0])

    @property
    def roots(self) -> tuple[str, ...]:
        """The folders that are watched, none inside another."""
        places = self.places
        return tuple(each for each in places if not any(is_below(each, one) for one in places))

    def concerned(self, path: str) -> str | None:
        """Return what has changed, if it may change what a build gives.

        A folder that a link leads to is watched once, by either name: the link may lie where no
        build looks.
        """
        folder, name = os.path.split(path)
        seen = os.path.join(os.path.realpath(folder), name)
        return next((each for each in (seen, path) if self._concerns(each)), None)

    def _concerns(self, path: str) -> bool:
        outs = self._outs()
        looked_at = any(_is_looked_at(path, place, all_of_it=bool(outs)) for place in self.places)
        if not looked_at or is_temporary(os.path.basename(path)):
            return False
        if any(is_below(path, out) for out in outs):
            return not self._is_recent(path)
        if path.endswith(".py") and not os.path.isdir(path):
            return not (self._is_own(path) or self._is_removed(path))
        return bool(outs) or os.path.basename(path) in SETTINGS or _may_be_folder(path)

    def _outs(self) -> set[str]:
        """Return the folders under which packages are mirrored, data files and all."""
        if self.projects is None:
            return set()
        found = (self.projects.of(place).out for place in self.places)
        return {os.path.realpath(out.path) for out in found if out is not None}

    def _is_recent(self, path: str) -> bool:
        start, end = self.built
        try:
            written = os.lstat(path).st_mtime
        except OSError:
            return False
        return start - _CLOCK_SECONDS <= written <= end + _CLOCK_SECONDS

    def _is_own(self, path: str) -> bool:
        """Whether a file is a generated module as the last build left it."""
        try:
            header = parse_header(read(path)) if self._is_recent(path) else None
        except OSError:
            return False
        return header is not None and header.intact

    def _is_removed(self, path: str) -> bool:
        """Whether a file that is gone has the name of a generated module without a source."""
        suffix = f"{self._config_of(path).suffix}.py"
        if os.path.lexists(path) or not path.endswith(suffix):
            return False
        try:
            return not holds_annotation(read(f"{path.removesuffix(suffix)}.py"))
        except OSError:
            return True

    def _config_of(self, path: str) -> Config:
        try:
            folder = os.path.dirname(path)
            return Config() if self.projects is None else self.projects.of(folder).config
        except ConfigError:
            return Config()


@dataclass
class Watcher:
    """Builds when something changes.

    Args:
        paths: the paths of the command line.
        config: the file given by `--config`, or None.
        open_scope: settles anew what to work on.
        build: builds once and prints what it finds.
        voice: says what changed.
    """

    paths: tuple[str, ...]
    config: str | None
    open_scope: OpenScope
    build: Build
    voice: Voice

    def follow(self) -> None:
        """Build, and again on each change, until the configuration changes."""
        view = self._view()
        with closing(_stream(view.roots)) as stream:
            _start(stream)
            before = _signatures(view.outside)
            self._build(view)
            self.voice.say("Watching for changes; Ctrl-C ends")
            for changes in stream:
                now = _signatures(view.outside)
                changed = {path for _, name in changes if (path := view.concerned(name))}
                changed |= {path for path in view.outside if before[path] != now[path]}
                if changed:
                    before = now
                    self._tell(changed)
                    if self._reconfigures(changed):
                        return
                    self._build(view)

    def _build(self, view: View) -> None:
        view.built[0] = time.time()
        try:
            self.build()
        except (ConfigError, UsageError) as error:
            click.echo(shown(f"Error: {error}"), err=True)
        view.built[1] = time.time()

    def _tell(self, changed: set[str]) -> None:
        first = os.path.relpath(min(changed, key=lambda path: (not path.endswith(".py"), path)))
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        self.voice.say(f"[{time.strftime('%H:%M:%S')}] Changed: {first}{more}")

    def _reconfigures(self, changed: Iterable[str]) -> bool:
        config = None if self.config is None else os.path.abspath(self.config)
        return any(path == config or os.path.basename(path) == MARKER for path in changed)

    def _view(self) -> View:
        try:
            scope = self.open_scope()
            paths, projects = scope.paths, scope.projects
            places = _places(paths)
            for place in places:
                projects.of(place)
        except (ConfigError, UsageError):
            places, projects = _places(self.paths or (".",)), None
        return View(places, _outside(places, self.config), projects)


def _places(paths: tuple[str, ...]) -> tuple[str, ...]:
    """Return the folders that a build of these paths looks into."""
    absolute = {os.path.abspath(path) for path in paths}
    folders = {path if os.path.isdir(path) else os.path.dirname(path) for path in absolute}
    folders |= {project_root(folder) or folder for folder in folders}
    return tuple(sorted({os.path.realpath(each) for each in folders if os.path.isdir(each)}))


def _outside(places: Iterable[str], config: str | None) -> tuple[str, ...]:
    above = {parent for place in places for parent in upwards(os.path.dirname(place))}
    files = {os.path.join(folder, name) for folder in above for name in SETTINGS}
    if config is not None:
        files.add(os.path.abspath(config))
    return tuple(sorted(files))


def _signatures(files: Iterable[str]) -> dict[str, tuple[int, ...] | None]:
    return {path: _signature(path) for path in files}


def _signature(path: str) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _stream(roots: tuple[str, ...]) -> Generator[Changes, Any, None]:
    """Yield what changes under the folders, and an empty set every now and then."""
    from watchfiles import DefaultFilter, watch

    return watch(
        *roots,
        watch_filter=DefaultFilter(ignore_dirs=()),  # no editor's temporary files
        step=_SETTLED_MS,
        debounce=_LONGEST_MS,
        rust_timeout=_IDLE_MS,
        yield_on_timeout=True,
        ignore_permission_denied=True,
    )


def _start(stream: Generator[Changes, Any, None]) -> None:
    """Begin to watch; from here on no change is missed."""
    try:
        next(stream)
    except OSError as error:
        advice = "with WATCHFILES_FORCE_POLLING=1 in the environment it looks at files in turn"
        raise UsageError(f"the folders cannot be watched ({error}); {advice}") from error


def _is_looked_at(path: str, place: str, *, all_of_it: bool) -> bool:
    """Whether a path lies in a folder that a build looks into, and in none that it passes over.

    Args:
        path: the path.
        place: the folder.
        all_of_it: whether packages are mirrored, a folder `dist` in them as well.
    """
    if not is_below(path, place):
        return False
    folder = os.path.dirname(path)
    while is_below(folder, place):
        if is_usually_passed_over(folder, in_package=all_of_it):
            return False
        folder = os.path.dirname(folder)
    return True


def _may_be_folder(path: str) -> bool:
    """Whether a path is a folder, or may have been one that was moved away whole."""
    if os.path.isdir(path):
        return not is_usually_passed_over(path)
    return "." not in os.path.basename(path) and not os.path.lexists(path)
