"""`vjpgen build -`: one source from standard input, its generated module to standard output."""

from __future__ import annotations

import os
import sys

from vjpgen.building.gather import Gathered, Source, UsageError, classify, is_excluded, named_file
from vjpgen.building.pipeline import Means, Report, build, compile_job
from vjpgen.building.plan import Job
from vjpgen.building.projects import as_shown
from vjpgen.building.scope import Scope, open_scope
from vjpgen.cli.output import print_findings, read_source
from vjpgen.cli.wishes import Wishes


def build_stdin(
    paths: tuple[str, ...],
    filename: str | None,
    config: str | None,
    out_dir: str | None,
    force_exclude: bool,
    wishes: Wishes,
) -> int:
    """Build what standard input holds as if it stood in `filename`; return the exit status."""
    if paths != ("-",):
        raise UsageError("`--stdin-filename` goes with the one path `-`")
    if filename is None:
        raise UsageError("`-` wants `--stdin-filename`, the name of the source")
    shown = os.path.normpath(as_shown(filename))
    if sys.stdin is None:
        raise UsageError("`-` wants a source on standard input, which is closed")
    data = sys.stdin.buffer.read()
    scope = open_scope((filename,), config, out_dir)
    jobs = _jobs(data, shown, scope, force_exclude)
    if wishes.writes:
        return _print_module(jobs, shown, data, wishes)
    sink = wishes.sink()
    report = build(Gathered(), jobs, sink, Means())
    _print_report(report, shown, data, wishes)
    return wishes.status(report, sink.changes)


def _jobs(data: bytes, shown: str, scope: Scope, force_exclude: bool) -> tuple[Job, ...]:
    path = os.path.abspath(shown)
    project = scope.projects.of(os.path.dirname(path))
    source = classify(named_file(path, shown, project), data)
    if not isinstance(source, Source) or (force_exclude and is_excluded(path, project)):
        return ()
    return scope.jobs(Gathered(sources=(source,)))


def _print_module(jobs: tuple[Job, ...], shown: str, data: bytes, wishes: Wishes) -> int:
    report = Report()
    for job in jobs:
        done = compile_job(job)
        report.add(done.diagnostics)
        sys.stdout.buffer.write(done.output or b"")
    _print_report(report, shown, data, wishes)
    return wishes.status(report, 0)


def _print_report(report: Report, filename: str, data: bytes, wishes: Wishes) -> None:
    """Print the findings, out of the way of what is printed on standard output."""
    print_findings(
        report.found,
        wishes.output_format,
        to_stderr=wishes.writes or wishes.diff,
        read=lambda name: data if name == filename else read_source(name),
    )
