"""`vjpgen build`: write generated modules."""

from __future__ import annotations

import click

from vjpgen.building.gather import UsageError, find_files, unreadable
from vjpgen.building.pipeline import Report
from vjpgen.building.scope import Scope, open_scope
from vjpgen.cli import options
from vjpgen.cli.output import Progress, Voice, exit_status, print_findings
from vjpgen.cli.running import Invocation, Manner, Run, leave_stamp, run_build
from vjpgen.cli.usage import usage_errors
from vjpgen.cli.wishes import Wishes
from vjpgen.diagnostics import Diagnostic


@click.command("build")
@options.common
@click.option("--check", is_flag=True, help="Write nothing; fail where a module has drifted.")
@click.option("--diff", is_flag=True, help="Write nothing; print what would change.")
@options.out_dir
@options.findings_format
@click.option("--stdin-filename", metavar="F", help="The name of the source that `-` reads.")
@click.option(
    "--exit-non-zero-on-change", "fail_on_change", is_flag=True, help="Fail where files changed."
)
@options.force_exclude
@options.jobs
@options.no_cache
@click.option("--watch", is_flag=True, help="Build again on every change, until Ctrl-C.")
@click.option("--show-files", is_flag=True, help="List the files looked at; build nothing.")
@click.option("--stats", is_flag=True, help="Say how many files were handled, and how fast.")
@click.pass_context
def command(
    ctx: click.Context,
    paths: tuple[str, ...],
    config: str | None,
    quiet: bool,
    verbose: bool,
    check: bool,
    diff: bool,
    out_dir: str | None,
    output_format: str,
    stdin_filename: str | None,
    fail_on_change: bool,
    force_exclude: bool,
    jobs: int | None,
    no_cache: bool,
    watch: bool,
    show_files: bool,
    stats: bool,
) -> None:
    """Write a generated module beside every annotated source under PATHS.

    With --out-dir, packages are mirrored under DIR whole, under their own names: put DIR first on
    the path.

    PATH `-` reads one source from standard input and prints its generated module.
    """
    voice = Voice(quiet, verbose)
    wishes = Wishes(check, diff, output_format, fail_on_change, stats, voice, out_dir)

    def opened() -> Scope:
        return open_scope(paths, config, out_dir, no_cache=no_cache)

    def run_once() -> Run:
        manner = Manner(force_exclude, jobs, Progress(wishes.voice))
        return run_build(opened(), manner, wishes.sink())

    with usage_errors():
        if watch:
            _refuse_with_watch(paths, {"check": check, "diff": diff, "show-files": show_files})
            from vjpgen.cli.watch import watch_builds

            def build_once() -> None:
                _tell(run_once(), wishes)

            ctx.exit(watch_builds(paths, config, opened, build_once, wishes.voice))
        if "-" in paths or stdin_filename is not None:
            from vjpgen.cli.stdin import build_stdin

            ctx.exit(build_stdin(paths, stdin_filename, config, out_dir, force_exclude, wishes))
        if show_files:
            ctx.exit(_show_files(opened(), force_exclude))
        run = run_once()
        status = _tell(run, wishes)
        if status == 0 and _is_plain(wishes) and ctx.obj is not None and not no_cache:
            leave_stamp(run, opened(), Invocation(ctx.obj, config, quiet, wishes.verb))
        ctx.exit(status)


def _is_plain(wishes: Wishes) -> bool:
    """Whether a build that finds nothing to do says nothing but its summary."""
    return wishes.output_format == "text" and not (wishes.stats or wishes.voice.verbose)


def _refuse_with_watch(paths: tuple[str, ...], flags: dict[str, bool]) -> None:
    for flag, given in flags.items():
        if given:
            raise UsageError(f"`--watch` does not go with `--{flag}`")
    if "-" in paths:
        raise UsageError("`--watch` does not go with standard input")


def _show_files(scope: Scope, force_exclude: bool) -> int:
    found: list[Diagnostic] = []
    files = find_files(
        scope.paths,
        scope.projects,
        force_exclude=force_exclude,
        on_error=lambda shown, error: found.append(unreadable(shown, error)),
    )
    for file in files:
        if not file.ignored:
            click.echo(file.shown)
    print_findings(tuple(found), "text", to_stderr=True)
    return exit_status(found)


def _tell(run: Run, wishes: Wishes) -> int:
    """Print what a build found and did; return the exit status."""
    print_findings(run.report.found, wishes.output_format, to_stderr=wishes.diff)
    voice = wishes.voice
    for name in run.report.fresh:
        voice.whisper(f"Unchanged {name}")
    voice.say(run.summary(wishes.verb))
    if wishes.stats:
        for line in _stats(run.report, run.changes):
            click.echo(line, err=True)
    return wishes.status(run.report, run.changes)


def _stats(report: Report, changes: int) -> list[str]:
    counts = {
        "files scanned": report.scanned,
        "sources": report.sources,
        "sources compiled": report.compiled,
        "processes": report.processes,
        "rules": len(report.rules),
        "modules changed": changes,
        "modules unchanged": len(report.fresh),
    }
    times = {f"seconds, {stage}": f"{spent:.3f}" for stage, spent in report.seconds.items()}
    return [f"{name}: {value}" for name, value in {**counts, **times}.items()]
