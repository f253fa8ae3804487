"""The stages from a source to its generated module, for one file after the other."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from vjpgen.building import results, workers
from vjpgen.building.cache import Caches
from vjpgen.building.compiling import Made, make
from vjpgen.building.gather import Gathered, unreadable
from vjpgen.building.layout import Layouts
from vjpgen.building.mirror import Mirror
from vjpgen.building.outcome import State, compare, foreign, orphan
from vjpgen.building.plan import Job, plan
from vjpgen.building.projects import Packages, Projects
from vjpgen.building.settling import settled
from vjpgen.building.siblings import Neighbourhoods
from vjpgen.building.sinks import Sink
from vjpgen.compiler import Result, RuleInfo
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
    compiled: int = 0
    processes: int = 1
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, diagnostics: Iterable[Diagnostic]) -> None:
        """Add findings."""
        self.diagnostics += diagnostics

    @property
    def found(self) -> tuple[Diagnostic, ...]:
        """The findings as a reader meets them."""
        return tuple(sorted(self.diagnostics, key=lambda item: item.place))


@dataclass(frozen=True)
class Means:
    """How results come about, none of which changes them.

    Args:
        caches: what earlier runs found out.
        processes: the most processes to compile in; None for as many as help.
        progress: is told how many sources are done, of how many.
    """

    caches: Caches = field(default_factory=lambda: Caches(enabled=False))
    processes: int | None = 1
    progress: Progress = lambda done, total: None


def build(
    gathered: Gathered,
    jobs: Iterable[Job],
    sink: Sink,
    means: Means,
    mirrors: Iterable[Mirror] = (),
) -> Report:
    """Compile every job and give the sink each difference between the disk and the results."""
    surveys = [mirror.survey() for mirror in mirrors]
    for survey in surveys:
        survey.open(sink)
    report = _compile_all(gathered, jobs, means, lambda done: _deliver(done, sink))
    start = time.perf_counter()
    annotated = {each.file.path for each in gathered.sources if each.is_annotated}
    beside = (each for each in gathered.generated if each.file.project.out is None)
    for module in beside:
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


def check(gathered: Gathered, jobs: Iterable[Job], means: Means) -> Report:
    """Compile every job and keep what is to be said."""
    return _compile_all(gathered, jobs, means, lambda done: ((), None))


def jobs_for(
    paths: Sequence[str],
    gathered: Gathered,
    projects: Projects,
    layouts: Layouts | None = None,
    mirrors: Iterable[Mirror] = (),
    caches: Caches | None = None,
) -> tuple[Job, ...]:
    """Plan what was gathered under the paths."""
    packages = Packages()
    neighbourhoods = neighbourhoods_of(paths, gathered, projects, packages, caches)
    layouts = layouts or Layouts(packages)
    taken = [item.place.target for mirror in mirrors for item in mirror.copies]
    return plan(gathered.sources, packages, neighbourhoods, layouts, taken)


def neighbourhoods_of(
    paths: Sequence[str],
    gathered: Gathered,
    projects: Projects,
    packages: Packages,
    caches: Caches | None = None,
) -> Neighbourhoods:
    """Return the annotated modules around what was gathered; no folder is walked twice."""
    whole = len(paths) == 1 and os.path.isdir(paths[0])
    scanned = {os.path.abspath(paths[0]): gathered} if whole else {}
    return Neighbourhoods(projects, packages, scanned, caches)


Deliver = Callable[[Compiled], tuple[Iterable[Diagnostic], str | None]]


def _compile_all(gathered: Gathered, jobs: Iterable[Job], means: Means, deliver: Deliver) -> Report:
    todo = tuple(jobs)
    report = Report(list(gathered.diagnostics), scanned=gathered.scanned, sources=len(todo))
    start = time.perf_counter()
    for number, (job, result) in enumerate(_results(todo, means, report)):
        means.progress(number, len(todo))
        done = settle(job, result)
        report.add(done.diagnostics)
        report.rules += done.rules
        found, fresh = deliver(done)
        report.add(found)
        report.fresh += [] if fresh is None else [fresh]
    means.progress(len(todo), len(todo))
    report.seconds["compile and write"] = time.perf_counter() - start
    _close(gathered, todo, means.caches)
    return report


def _results(jobs: Sequence[Job], means: Means, report: Report) -> Iterator[tuple[Job, Result]]:
    """Yield each job with its result, in their order, stored ones and new ones."""
    found = {number: stored for number, job in enumerate(jobs) if (stored := _stored(job, means))}
    missing = [number for number in range(len(jobs)) if number not in found]
    tasks = [jobs[number].task for number in missing]
    lines = sum(task.data.count(b"\n") for task in tasks)
    report.compiled, report.processes = len(tasks), workers.helpful(lines, means.processes)
    made = workers.make_all(tasks, report.processes)
    for number, job in enumerate(jobs):
        while number not in found:
            which, new = next(made)
            found[missing[which]] = new.result
            _store(jobs[missing[which]], new, means)
        yield job, found.pop(number)


def _stored(job: Job, means: Means) -> Result | None:
    cache = means.caches.of(job.file.project.root)
    return results.load(cache, results.entry_name(job.file.path, job.task), job.task)


def _store(job: Job, made: Made, means: Means) -> None:
    if made.is_lasting:
        cache = means.caches.of(job.file.project.root)
        results.store(cache, results.entry_name(job.file.path, job.task), job.task, made)


def _close(gathered: Gathered, jobs: Sequence[Job], caches: Caches) -> None:
    """Keep what was found out of the files, and drop what no source stands behind any more."""
    walked = {folder.path for folder in gathered.folders}
    for root, cache in caches.opened():
        own = [job for job in jobs if job.file.project.root == root]
        names = [results.entry_name(job.file.path, job.task) for job in own]
        cache.close(gathered.folders, names if root in walked else None)


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
    return settle(job, make(job.task).result)


def settle(job: Job, result: Result) -> Compiled:
    """Settle which findings are shown, and whether the module is written."""
    found = tuple(_shown(job, result))
    stopped = any(item.is_error for item in found)
    return Compiled(job, None if stopped else result.output, found, result.rules)


def _shown(job: Job, result: Result) -> Iterator[Diagnostic]:
    """Yield the findings that are shown, and what stands in the way of writing a module."""
    file = job.file
    yield from settled(result, job.data, file.path, file.shown, file.project)
    place = result.rules[0].span if result.rules else WHOLE_FILE
    yield from (replace(item, span=place) for item in job.obstacles)
