"""The stages from a source to its generated module, for one file after the other."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from vjpgen.building.gather import Gathered, unreadable
from vjpgen.building.layout import Layouts
from vjpgen.building.mirror import Mirror
from vjpgen.building.outcome import State, compare, foreign, orphan
from vjpgen.building.plan import Job, plan
from vjpgen.building.projects import Packages, Projects
from vjpgen.building.settling import settled
from vjpgen.building.siblings import Neighbourhoods
from vjpgen.building.sinks import Sink
from vjpgen.compiler import Result, RuleInfo, compile_source
from vjpgen.diagnostics import WHOLE_FILE, Diagnostic

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Compiled:
    """One source with all that is to be said about it.

    Args:
        job: what was compiled.
        output: the generated module; None where none is to be written.
        diagnostics: the findings that are to be shown.
        rules: the annotated functions.
    """

    job: Job
    output: bytes | None = field(repr=False)
    diagnostics: tuple[Diagnostic, ...]
    rules: tuple[RuleInfo, ...]


@dataclass
class Report:
    """What a run found and did."""

    diagnostics: list[Diagnostic] = field(default_factory=list)
    rules: list[RuleInfo] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)
    scanned: int = 0
    sources: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, diagnostics: Iterable[Diagnostic]) -> None:
        """Add findings."""
        self.diagnostics += diagnostics

    @property
    def found(self) -> tuple[Diagnostic, ...]:
        """The findings as a reader meets them."""
        return tuple(sorted(self.diagnostics, key=lambda item: item.place))


def build(
    gathered: Gathered,
    jobs: Iterable[Job],
    sink: Sink,
    progress: Progress,
    mirrors: Iterable[Mirror] = (),
) -> Report:
    """Compile every job and give the sink each difference between the disk and the results."""
    surveys = [mirror.survey() for mirror in mirrors]
    for survey in surveys:
        survey.open(sink)
    report = _compile_all(gathered, jobs, progress, lambda done: _deliver(done, sink))
    start = time.perf_counter()
    annotated = {each.file.path for each in gathered.sources if each.is_annotated}
    for module in gathered.generated:
        try:
            change = orphan(module, annotated)
            report.add(() if change is None else sink.accept(change))
        except OSError as error:
            report.add([unreadable(module.file.shown, error)])
    for survey in surveys:
        survey.close(sink)
        report.add(survey.diagnostics)
        report.fresh += survey.fresh
    report.seconds["orphans"] = time.perf_counter() - start
    return report


def check(gathered: Gathered, jobs: Iterable[Job], progress: Progress) -> Report:
    """Compile every job and keep what is to be said."""
    return _compile_all(gathered, jobs, progress, lambda done: ((), None))


def jobs_for(
    paths: Sequence[str],
    gathered: Gathered,
    projects: Projects,
    layouts: Layouts | None = None,
    mirrors: Iterable[Mirror] = (),
) -> tuple[Job, ...]:
    """Plan what was gathered under the paths; a whole folder need not be walked again."""
    whole = len(paths) == 1 and os.path.isdir(paths[0])
    scanned = {os.path.abspath(paths[0]): gathered} if whole else {}
    packages = Packages()
    neighbourhoods = Neighbourhoods(projects, packages, scanned)
    layouts = layouts or Layouts(packages)
    taken = [item.place.path for mirror in mirrors for item in mirror.copies]
    return plan(gathered.sources, packages, neighbourhoods, layouts, taken)


Deliver = Callable[[Compiled], tuple[Iterable[Diagnostic], str | None]]


def _compile_all(
    gathered: Gathered, jobs: Iterable[Job], progress: Progress, deliver: Deliver
) -> Report:
    todo = tuple(jobs)
    report = Report(list(gathered.diagnostics), scanned=len(gathered.scanned), sources=len(todo))
    start = time.perf_counter()
    for number, job in enumerate(todo):
        progress(number, len(todo))
        done = compile_job(job)
        report.add(done.diagnostics)
        report.rules += done.rules
        found, fresh = deliver(done)
        report.add(found)
        report.fresh += [] if fresh is None else [fresh]
    progress(len(todo), len(todo))
    report.seconds["compile and write"] = time.perf_counter() - start
    return report


def _deliver(done: Compiled, sink: Sink) -> tuple[Iterable[Diagnostic], str | None]:
    """Hand one result to the sink; return what it reports, and the name of a fresh output."""
    if done.output is None:
        return (), None
    try:
        change = compare(done.job, done.output)
        if change.state is State.FOREIGN:
            return (foreign(change, done.job.advice),), None
        if change.state is State.FRESH:
            return (), change.shown
        return tuple(sink.accept(change)), None
    except OSError as error:
        return (unreadable(done.job.place.shown, error),), None


def compile_job(job: Job) -> Compiled:
    """Compile one source, and settle which findings are shown and whether it is written."""
    result = _compile(job)
    found = tuple(_shown(job, result))
    stopped = any(item.is_error for item in found)
    return Compiled(job, None if stopped else result.output, found, result.rules)


def _compile(job: Job) -> Result:
    """Compile; a fault of the compiler's own is a finding about this file, not the end."""
    shown = job.file.shown
    try:
        return compile_source(job.data, shown, options=job.options, siblings=job.siblings)
    except Exception as error:
        message = f"the compiler failed: {type(error).__name__}: {error}"
        help_ = "this is a fault of vjpgen; please report it with the source"
        return Result(diagnostics=(Diagnostic("VJP903", message, shown, WHOLE_FILE, help_),))


def _shown(job: Job, result: Result) -> Iterator[Diagnostic]:
    """Yield the findings that are shown, and what stands in the way of writing a module."""
    file = job.file
    yield from settled(result, job.data, file.path, file.shown, file.project)
    place = result.rules[0].span if result.rules else WHOLE_FILE
    yield from (replace(item, span=place) for item in job.obstacles)
