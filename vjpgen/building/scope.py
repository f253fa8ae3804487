"""What a command works on: the paths, and the projects that they belong to."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace

from vjpgen.building.cache import Caches
from vjpgen.building.gather import Gathered, UsageError, gather
from vjpgen.building.layout import Layouts
from vjpgen.building.mirror import Mirror
from vjpgen.building.pipeline import jobs_for, neighbourhoods_of
from vjpgen.building.plain import is_wanted, plain_imports_in
from vjpgen.building.plan import Job
from vjpgen.building.projects import Packages, Projects, as_shown, common_root


@dataclass(frozen=True)
class Scope:
    """The paths of the command line, or the configuration's, and how to find a project."""

    paths: tuple[str, ...]
    projects: Projects
    caches: Caches

    def gather(self, *, force_exclude: bool) -> Gathered:
        """Read the files that the paths mean."""
        return gather(self.paths, self.projects, force_exclude=force_exclude, caches=self.caches)

    def with_notes(self, gathered: Gathered) -> Gathered:
        """Add what is to be said of files without annotation, in projects that ask for it."""
        projects = {each.project for each in (*gathered.folders, *gathered.named)}
        if not any(map(is_wanted, projects)):
            return gathered
        around = neighbourhoods_of(self.paths, gathered, self.projects, Packages(), self.caches)
        notes = plain_imports_in(gathered, around)
        return replace(gathered, diagnostics=(*gathered.diagnostics, *notes))

    def jobs(
        self,
        gathered: Gathered,
        layouts: Layouts | None = None,
        mirrors: Iterable[Mirror] = (),
    ) -> tuple[Job, ...]:
        """Plan what is to be compiled of what was gathered."""
        return jobs_for(self.paths, gathered, self.projects, layouts, mirrors, self.caches)


def open_scope(
    paths: tuple[str, ...],
    config: str | None,
    out_dir: str | None = None,
    *,
    no_cache: bool = False,
) -> Scope:
    """Settle what to work on; without paths, what the configuration names, or this folder.

    Raises:
        UsageError: a path is not one.
        ConfigError: a configuration is wrong.
    """
    if out_dir == "":
        raise UsageError("`--out-dir` wants the name of a folder")
    paths = tuple(map(as_shown, paths))
    given = paths or (".",)
    projects = Projects(config, common_root(os.path.abspath(path) for path in given), out_dir)
    return Scope(paths or _configured(projects), projects, Caches(enabled=not no_cache))


def _configured(projects: Projects) -> tuple[str, ...]:
    project = projects.of(os.getcwd())
    return tuple(
        os.path.relpath(os.path.join(project.base, path)) for path in project.config.paths
    ) or (".",)
