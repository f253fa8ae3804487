"""What there is to verify: the annotated functions under some paths."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from vjpgen.building.pipeline import Means, Progress, check
from vjpgen.building.scope import open_scope
from vjpgen.compiler import RuleInfo
from vjpgen.diagnostics import Diagnostic
from vjpgen.importing.loading import find


@dataclass(frozen=True)
class Target:
    """One rule to verify.

    Args:
        path: the absolute path of its source.
        info: its annotation.
        root: the folder that its module is imported from.
        errors: the findings that keep its source from being compiled.
    """

    path: str
    info: RuleInfo
    root: str | None = None
    errors: tuple[Diagnostic, ...] = ()

    @property
    def id(self) -> str:
        """File and function: `src/model.py::Net.__call__`."""
        return f"{self.info.filename.replace(os.sep, '/')}::{self.info.name}"

    def fits(self, pattern: str) -> bool:
        """Whether a pattern, or a piece of text, is found in the target's id."""
        return pattern in self.id or fnmatchcase(self.id, f"*{pattern}")


@dataclass(frozen=True)
class Targets:
    """What lies under the paths.

    Args:
        rules: the annotated functions, in the order of the files.
        diagnostics: what is to be said of the sources, in the order of the files.
    """

    rules: tuple[Target, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()

    def selected(self, patterns: Sequence[str]) -> Targets:
        """Return those that one of the patterns fits; all, where there is no pattern."""
        if not patterns:
            return self
        rules = (each for each in self.rules if any(map(each.fits, patterns)))
        return Targets(tuple(rules), self.diagnostics)


def find_targets(
    paths: Iterable[str],
    config: str | None = None,
    *,
    force_exclude: bool = False,
    progress: Progress = lambda done, total: None,
) -> Targets:
    """Find the annotated functions under the paths.

    Args:
        paths: folders and files; none for what the configuration names.
        config: a configuration file that holds everywhere; None for the nearest ones.
        force_exclude: whether `exclude` holds for what is named outright, too.
        progress: is told how many sources are done, of how many.

    Raises:
        UsageError: a path is not one.
        ConfigError: a configuration is wrong.
    """
    scope = open_scope(tuple(paths), config)
    gathered = scope.gather(force_exclude=force_exclude)
    report = check(gathered, scope.jobs(gathered), Means(scope.caches, None, progress))
    roots: dict[str, str | None] = {}
    for info in report.rules:
        if info.filename not in roots:
            roots[info.filename] = find(os.path.abspath(info.filename)).root
    return Targets(
        tuple(_target(info, roots[info.filename], report.found) for info in report.rules),
        report.found,
    )


def _target(info: RuleInfo, root: str | None, found: Iterable[Diagnostic]) -> Target:
    errors = tuple(each for each in found if each.is_error and each.filename == info.filename)
    return Target(os.path.abspath(info.filename), info, root, errors)
