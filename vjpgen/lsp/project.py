"""The compiler's view of a buffer: its project, configuration and siblings, kept between looks.

What is kept holds until a configuration changes on disk, or somebody says that files came, went or
got their first annotation.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from vjpgen.building.gather import (
    Gathered,
    Source,
    UsageError,
    classify,
    is_excluded,
    named_file,
)
from vjpgen.building.layout import Layouts
from vjpgen.building.paths import MARKER, is_inside, upwards
from vjpgen.building.plain import is_wanted, noted
from vjpgen.building.plan import Job, plan
from vjpgen.building.projects import Packages, Project, Projects, common_root
from vjpgen.building.siblings import Neighbourhoods
from vjpgen.building.walk import Found
from vjpgen.config import Config, ConfigError
from vjpgen.diagnostics import Diagnostic
from vjpgen.lsp.document import Document

Report = Callable[[str], None]
Stamp = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class _Known:
    """What was found out about the folders under one root."""

    projects: Projects
    packages: Packages
    neighbourhoods: Neighbourhoods
    layouts: Layouts


class Workspace:
    """The projects of the folders that a client has open.

    Args:
        config_file: a configuration that holds everywhere, or None for the nearest one.
        report: is told of a configuration that is wrong, once for each message.
    """

    def __init__(self, config_file: str | None, report: Report) -> None:
        self.folders: tuple[str, ...] = ()
        self._config_file = config_file
        self._report = report
        self._reported: set[str] = set()
        self._known: dict[str, _Known] = {}
        self._stamps: dict[str, Stamp] = {}
        self._good: dict[str, Project] = {}

    def forget(self) -> None:
        """Look at the disk anew from now on."""
        self._known = {}
        self._stamps = {}

    def job(self, document: Document) -> Job | tuple[Diagnostic, ...]:
        """What to compile for a buffer; where nothing is, what else there is to say about it."""
        folder = os.path.dirname(document.path)
        if self._stamps.get(folder) != (stamp := _stamp(folder, self._config_file)):
            if folder in self._stamps:
                self.forget()
            self._stamps[folder] = stamp
        root = self._root(document.path)
        project = self._project(folder, root)
        if is_excluded(document.path, project):
            return ()
        shown = os.path.relpath(document.path, project.root)
        file = named_file(document.path, shown, project)
        try:
            return _planned(file, document.data, self._of(root))
        except ConfigError as error:
            self._tell(error)
            return _planned(file, document.data, _lone(self._of(root).projects, project.root))
        except UsageError as error:
            self._tell(error)
            return ()

    def roots(self, path: str) -> tuple[str, ...]:
        """The folders that absolute imports of a file may start from, the likeliest first."""
        folder = os.path.dirname(path)
        project = self._project(folder, self._root(path)).root
        package = Packages().root(folder)
        listed = (package, project, os.path.join(project, "src"), *self.folders)
        return tuple(dict.fromkeys(listed))

    def _root(self, path: str) -> str:
        """The root of a file that lies under no `pyproject.toml`."""
        holding = [each for each in self.folders if is_inside(path, each)]
        return max(holding, key=len, default="") or common_root([path])

    def _of(self, root: str) -> _Known:
        if root not in self._known:
            projects = self._projects(root)
            # A lone file's folder may be anyone's home: it is not walked.
            is_open = root in self.folders
            self._known[root] = _whole(projects) if is_open else _lone(projects, root)
        return self._known[root]

    def _projects(self, root: str) -> Projects:
        try:
            return Projects(self._config_file, root)
        except ConfigError as error:
            self._tell(error)
            return Projects(None, root)

    def _project(self, folder: str, root: str) -> Project:
        """The project of a folder; with a wrong configuration, as it last was when right."""
        try:
            project = self._of(root).projects.of(folder)
        except ConfigError as error:
            self._tell(error)
            return self._good.get(folder) or Project(root, root, Config())
        self._good[folder] = project
        return project

    def _tell(self, error: ConfigError | UsageError) -> None:
        if str(error) not in self._reported:
            self._reported.add(str(error))
            self._report(str(error))


def _planned(file: Found, data: bytes, known: _Known) -> Job | tuple[Diagnostic, ...]:
    kind = classify(file, data)
    if isinstance(kind, Source):
        return plan([kind], known.packages, known.neighbourhoods, known.layouts)[0]
    if kind is None and is_wanted(file.project):
        return tuple(noted(file, data, known.neighbourhoods))
    return ()


def _whole(projects: Projects) -> _Known:
    packages = Packages()
    return _Known(projects, packages, Neighbourhoods(projects, packages, {}), Layouts(packages))


def _lone(projects: Projects, root: str) -> _Known:
    """The same, but for the files of one folder that is not walked."""
    packages = Packages()
    neighbourhoods = Neighbourhoods(projects, packages, {root: Gathered()})
    return _Known(projects, packages, neighbourhoods, Layouts(packages))


def _stamp(folder: str, config_file: str | None) -> Stamp:
    """When the configurations that may hold in a folder were last changed."""
    found = []
    paths = [] if config_file is None else [config_file]
    for path in (*paths, *(os.path.join(each, MARKER) for each in upwards(folder))):
        try:
            status = os.stat(path)
            found.append((path, status.st_mtime_ns, status.st_size))
        except OSError:
            continue
    return tuple(found)
