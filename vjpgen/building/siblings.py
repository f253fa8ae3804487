"""Which names mean an annotated module, as seen from each module of a project."""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

from vjpgen.building.cache import Caches
from vjpgen.building.gather import Gathered, Source, gather
from vjpgen.building.paths import is_inside
from vjpgen.building.projects import Packages, Project, Projects
from vjpgen.building.sources import ProjectSources, Tops
from vjpgen.building.walk import Folder, Found
from vjpgen.compiler import Siblings

_INIT = "__init__"


class Neighbours:
    """The annotated modules of one project.

    The same whatever part of the project is built, so that building one file gives the same
    bytes as building all.

    Args:
        project: the project.
        folders: its folders.
        sources: those of its files that hold an annotation, or look so.
        packages: finds the root of a package.
        made: takes each text of the project that is made for the folder of an import.
    """

    def __init__(
        self,
        project: Project,
        folders: Iterable[Folder],
        sources: Iterable[Source],
        packages: Packages,
        made: list[ProjectSources],
    ) -> None:
        self._project = packages.root(project.root)
        self._packages = packages
        self._tops: dict[str, set[str]] = defaultdict(set)
        self._annotated: dict[str, set[str]] = defaultdict(set)
        self._from_project: set[str] = set()
        self._project_tops: set[str] = set()
        for folder in folders:
            self._add_folder(folder)
        for source in sources:
            if source.is_annotated and _has_sibling(source.file.path):
                self._add_annotated(source.file.path)
        self._modules: dict[str, frozenset[str]] = {}
        self._sources: dict[str, ProjectSources] = {}
        self._made = made

    def seen_from(self, path: str) -> Siblings:
        """Return the annotated modules as the module at `path` would import them."""
        folder = os.path.dirname(path)
        root = self._packages.root(folder)
        if root not in self._modules:
            self._modules[root] = frozenset(self._visible(root))
            tops = Tops(self._tops, self._project, self._project_tops)
            self._sources[root] = ProjectSources(tops, root)
            self._made.append(self._sources[root])
        package = self._package(folder, root)
        return Siblings(self._modules[root], package, self._sources[root])

    def _add_folder(self, folder: Folder) -> None:
        """Note the names that the folder's modules have at the top of where it is imported from."""
        if not folder.entries:
            return
        root = self._packages.root(folder.path)
        for top in _tops(folder, root):
            self._tops[top].add(root)
        self._project_tops |= _tops(folder, self._project)

    def _add_annotated(self, path: str) -> None:
        root = self._packages.root(os.path.dirname(path))
        self._annotated[root].add(_dotted(path, root))
        self._from_project.add(_dotted(path, self._project))

    def _package(self, folder: str, root: str) -> str:
        """Name the package that relative imports start from, one without `__init__.py` too."""
        start = self._project if is_inside(folder, self._project) else root
        return "" if folder == start else _dotted(folder, start)

    def _visible(self, root: str) -> Iterator[str]:
        """Yield the annotated modules by the names that they can have from a root."""
        yield from self._annotated[root]
        yield from self._from_project
        for name, top in self._unmistakable.items():
            if root not in self._tops[top]:
                yield name

    @cached_property
    def _unmistakable(self) -> dict[str, str]:
        """The names, with their first parts, that mean nothing else wherever they are known."""
        names = {name: name.split(".")[0] for own in self._annotated.values() for name in own}
        return {
            name: top
            for name, top in names.items()
            if top not in sys.stdlib_module_names
            and all(name in self._annotated[root] for root in self._tops[top])
        }


class Neighbourhoods:
    """The neighbours of each project, found when first asked for.

    Args:
        projects: finds the project of a folder.
        packages: finds the root of a package.
        scanned: folders that were walked whole, with what was found; they are not walked again.
        caches: tell which files need not be read.
    """

    def __init__(
        self,
        projects: Projects,
        packages: Packages,
        scanned: Mapping[str, Gathered],
        caches: Caches | None = None,
    ) -> None:
        self._projects = projects
        self._packages = packages
        self._scanned = scanned
        self._caches = caches or Caches(enabled=False)
        self._known: dict[str, Neighbours] = {}

    def seen_from(self, file: Found) -> Siblings:
        """Return the annotated modules of a file's project as the file would import them."""
        project = file.project
        if project.root not in self._known:
            self._known[project.root] = self._scan(project)
        return self._known[project.root].seen_from(file.path)

    def _scan(self, project: Project) -> Neighbours:
        gathered = self._scanned.get(project.root) or gather(
            [project.root], self._projects, caches=self._caches
        )
        return Neighbours(
            project,
            [each for each in gathered.folders if each.project.root == project.root],
            [each for each in gathered.sources if each.file.project.root == project.root],
            self._packages,
            self._caches.sources,
        )


def _dotted(path: str, start: str) -> str:
    """Return a path as `import` would spell it; a dot in a folder's name is no separator."""
    relative = os.path.relpath(path, start).removesuffix(".py")
    parts = relative.replace(".", "-").split(os.sep)
    return ".".join(part for part in parts if part != _INIT) or _INIT


def _tops(folder: Folder, root: str) -> set[str]:
    """The names at the top of a root that the modules in a folder below it stand for."""
    if folder.path == root:
        return {entry.name.removesuffix(".py") for entry in folder.entries}
    return {_dotted(folder.path, root).split(".")[0]}


def _has_sibling(path: str) -> bool:
    return os.path.basename(path) != f"{_INIT}.py"
