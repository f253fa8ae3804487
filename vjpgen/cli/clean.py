"""`vjpgen clean`: remove generated modules."""

from __future__ import annotations

from collections.abc import Iterator

import click

from vjpgen.building.files import remove
from vjpgen.building.gather import Generated, gather, unreadable
from vjpgen.cli import options
from vjpgen.cli.output import Voice, exit_status, print_findings
from vjpgen.cli.scope import open_scope, usage_errors
from vjpgen.diagnostics import WHOLE_FILE, Diagnostic


@click.command("clean")
@options.common
@options.force_exclude
@click.pass_context
def command(
    ctx: click.Context,
    paths: tuple[str, ...],
    config: str | None,
    quiet: bool,
    verbose: bool,
    force_exclude: bool,
) -> None:
    """Remove the generated modules under PATHS, except those that were edited by hand."""
    voice = Voice(quiet, verbose)
    with usage_errors():
        scope = open_scope(paths, config)
        gathered = gather(scope.paths, scope.projects, force_exclude=force_exclude)
    found = list(gathered.diagnostics)
    for module in gathered.generated:
        found += _clean(module, voice)
    print_findings(tuple(found), "text")
    ctx.exit(exit_status(found))


def _clean(module: Generated, voice: Voice) -> Iterator[Diagnostic]:
    """Remove one module, or say why it stays."""
    shown = module.file.shown
    if not module.header.intact:
        yield _kept(shown, "was edited by hand")
    elif module.source_name is None:
        yield _kept(shown, "is not where `vjpgen build` writes")
    else:
        try:
            remove(module.file.path)
            voice.say(f"Removed {shown}")
        except OSError as error:
            yield unreadable(shown, error)


def _kept(shown: str, why: str) -> Diagnostic:
    message = f"{shown} {why} and was kept"
    return Diagnostic("VJP904", message, shown, WHOLE_FILE, "remove it yourself")
