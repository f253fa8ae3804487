"""What there is to verify: the annotated functions under some paths."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from vjpgen.building.outcome import Change, State
from vjpgen.building.pipeline import Means, Progress, build
from vjpgen.building.scope import open_scope
from vjpgen.compiler import RuleInfo
from vjpgen.diagnostics import Diagnostic
from vjpgen.importing.loading import find

_ABOUT_OUTPUTS = ("VJP901", "VJP904")


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

    def is_called(self, name: str) -> bool:
        """Whether a name is the target's id, or its function's."""
        return name in (self.id, self.info.name)

    def fits(self, pattern: str) -> bool:
        """Whether a piece of text is found in the target's id, or a pattern fits its end."""
        return pattern in self.id or fnmatchcase(self.id, f"*{pattern}")


@dataclass(frozen=True)
class Targets:
    """What lies under the paths.

    Args:
        rules: the annotated functions, in the order of the files.
        diagnostics: what is to be said of the sources, in the order of the files.
        drifted: the generated modules on disk that are not what their sources give now.
    """

    rules: tuple[Target, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()
    drifted: tuple[str, ...] = ()

    def selected(self, patterns: Sequence[str]) -> Iterator[Target]:
        """Yield the rules that one of the patterns means; all, where there is no pattern.

        A pattern that is a rule's name means no others.
        """
        named = {each for each in patterns if any(rule.is_called(each) for rule in self.rules)}
        for rule in self.rules:
            fits = (rule.is_called(each) if each in named else rule.fits(each) for each in patterns)
            if not patterns or any(fits):
                yield rule


@dataclass
class _Drift:
    """Notes the generated modules that differ from what their sources give."""

    names: list[str] = field(default_factory=list)
    changes: int = 0
    writes: bool = False

    def accept(self, change: Change) -> Iterable[Diagnostic]:
        """Note a module."""
        if change.state in (State.STALE, State.EDITED):
            self.names.append(change.shown)
        return ()


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
    drift = _Drift()
    report = build(gathered, scope.jobs(gathered), drift, Means(scope.caches, None, progress))
    found = tuple(each for each in report.found if each.code not in _ABOUT_OUTPUTS)
    roots: dict[str, str | None] = {}
    for info in report.rules:
        if info.filename not in roots:
            roots[info.filename] = find(os.path.abspath(info.filename)).root
    return Targets(
        tuple(_target(info, roots[info.filename], found) for info in report.rules),
        found,
        tuple(drift.names),
    )


def _target(info: RuleInfo, root: str | None, found: Iterable[Diagnostic]) -> Target:
    errors = tuple(each for each in found if each.is_error and each.filename == info.filename)
    return Target(os.path.abspath(info.filename), info, root, errors)
