"""`vjpgen check`: the findings alone."""

from __future__ import annotations

import click

from vjpgen.building.pipeline import Means, check
from vjpgen.building.scope import open_scope
from vjpgen.cli import options
from vjpgen.cli.output import Progress, Voice, exit_status, print_findings
from vjpgen.cli.usage import usage_errors


@click.command("check")
@options.common
@options.out_dir
@options.force_exclude
@options.jobs
@options.no_cache
@options.findings_format
@click.pass_context
def command(
    ctx: click.Context,
    paths: tuple[str, ...],
    config: str | None,
    quiet: bool,
    verbose: bool,
    out_dir: str | None,
    force_exclude: bool,
    jobs: int | None,
    no_cache: bool,
    output_format: str,
) -> None:
    """Report what is wrong with the annotations under PATHS; write nothing."""
    voice = Voice(quiet, verbose)
    with usage_errors():
        scope = open_scope(paths, config, out_dir, no_cache=no_cache)
        gathered = scope.with_notes(scope.gather(force_exclude=force_exclude))
        todo = scope.jobs(gathered)
    for job in todo:
        voice.whisper(f"Checking {job.file.shown}")
    report = check(gathered, todo, Means(scope.caches, jobs, Progress(voice)))
    print_findings(report.found, output_format)
    if not report.found and output_format == "text":
        voice.say(f"{len(report.rules)} rules in {report.sources} files, nothing to report")
    ctx.exit(exit_status(report.diagnostics))
