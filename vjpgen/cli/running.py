"""One build from a scope to its report, and the stamp that spares the next one the trouble."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from vjpgen.building import stamp
from vjpgen.building.layout import Layouts
from vjpgen.building.mirror import find_mirrors
from vjpgen.building.pipeline import Means, Progress, Report, build
from vjpgen.building.places import places_of
from vjpgen.building.plan import Job
from vjpgen.building.projects import Packages
from vjpgen.building.scope import Scope
from vjpgen.building.sinks import CheckSink, Sink

_TICK_SECONDS = 0.02


@dataclass(frozen=True)
class Manner:
    """How to build.

    Args:
        force_exclude: whether `exclude` holds for what is named outright, too.
        processes: the most processes to compile in; None for as many as help.
        progress: is told how many sources are done, of how many.
    """

    force_exclude: bool
    processes: int | None
    progress: Progress


@dataclass(frozen=True)
class Invocation:
    """A command line.

    Args:
        arguments: all of it.
        config: the configuration that it names.
        quiet: whether only findings are to be said.
        verb: what it does to files.
    """

    arguments: tuple[str, ...]
    config: str | None
    quiet: bool
    verb: str


@dataclass(frozen=True)
class Run:
    """A build that was run.

    Args:
        scope: what was built.
        manner: how.
        started: when, in nanoseconds.
        jobs: what was compiled.
        report: what was found.
        changes: how many files the sink has changed, or would have.
    """

    scope: Scope
    manner: Manner
    started: int
    jobs: Sequence[Job]
    report: Report
    changes: int

    @property
    def is_clean(self) -> bool:
        """Whether there was nothing to do and nothing to say."""
        return not (self.changes or self.report.diagnostics)

    def summary(self, verb: str) -> str:
        """Return the line that sums it up.

        Args:
            verb: what was done to files that differ.
        """
        return f"{self.changes} {verb}, {len(self.report.fresh)} unchanged"

    @property
    def can_be_stamped(self) -> bool:
        """Whether all that the outcome depends on is known: whole folders, built in place."""
        in_place = all(project.out is None for project in self.scope.projects.met())
        return in_place and all(os.path.isdir(path) for path in self.scope.paths)


def run_build(scope: Scope, manner: Manner, sink: Sink) -> Run:
    """Build what a scope holds into a sink."""
    started = time.time_ns()
    gathered = scope.with_notes(scope.gather(force_exclude=manner.force_exclude))
    layouts = Layouts(Packages())
    mirrors = find_mirrors(
        scope.paths,
        scope.projects,
        layouts,
        gathered,
        scope.caches,
        force_exclude=manner.force_exclude,
    )
    jobs = scope.jobs(gathered, layouts, mirrors)
    means = Means(scope.caches, manner.processes, manner.progress)
    report = build(gathered, jobs, sink, means, mirrors)
    return Run(scope, manner, started, jobs, report, sink.changes)


def leave_stamp(run: Run, again: Scope, invocation: Invocation) -> None:
    """Spare the next build with these arguments the trouble, if it will find nothing to do.

    Where this one has written something, everything is looked at once more: what came in between
    is seen, and what was written is known to be what it should be. So it is where other processes
    have compiled, since only they know what they read.

    Args:
        run: the build.
        again: the same scope, opened anew.
        invocation: the command line that asked for it.
    """
    if run.changes or run.report.processes > 1:
        time.sleep(_TICK_SECONDS)  # so that the times of what was written are past
        run = run_build(again, run.manner, CheckSink())
    if run.is_clean and run.can_be_stamped:
        places = places_of(run.scope.paths, run.scope.caches, invocation.config)
        said = "" if invocation.quiet else f"{run.summary(invocation.verb)}\n"
        stamp.leave(invocation.arguments, said, places, run.started)
