"""`vjpgen clean`: remove generated modules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import click

from vjpgen.building.files import remove
from vjpgen.building.gather import Generated, unreadable
from vjpgen.building.layout import Layouts
from vjpgen.building.mirror import Mirror, empty_mirrors
from vjpgen.building.outcome import Change
from vjpgen.building.projects import Packages
from vjpgen.building.scope import open_scope
from vjpgen.building.sinks import WriteSink
from vjpgen.cli import options
from vjpgen.cli.output import Voice, exit_status, print_findings
from vjpgen.cli.usage import usage_errors
from vjpgen.diagnostics import WHOLE_FILE, Diagnostic


@click.command("clean")
@options.common
@options.out_dir
@options.force_exclude
@click.pass_context
def command(
    ctx: click.Context,
    paths: tuple[str, ...],
    config: str | None,
    quiet: bool,
    verbose: bool,
    out_dir: str | None,
    force_exclude: bool,
) -> None:
    """Remove the generated modules under PATHS, except those that were edited by hand.

    With --out-dir: what was mirrored under DIR from PATHS.
    """
    voice = Voice(quiet, verbose)
    with usage_errors():
        scope = open_scope(paths, config, out_dir)
        gathered = scope.gather(force_exclude=force_exclude)
        layouts = Layouts(Packages())
        mirrors = empty_mirrors(scope.paths, scope.projects, layouts, scope.caches, by_place=True)
    found = list(gathered.diagnostics)
    for module in gathered.generated:
        if module.file.project.out is None:
            found += _clean(module, voice)
    for mirror in mirrors:
        found += _clean_mirror(mirror, voice)
    print_findings(tuple(found), "text")
    ctx.exit(exit_status(found))


@dataclass
class _CleanSink(WriteSink):
    """Removes what has to go, and names what stays."""

    def accept(self, change: Change) -> Iterable[Diagnostic]:
        """Remove a file, or say why it stays."""
        if change.keep:
            return (_kept(change.shown, "was edited by hand"),)
        return super().accept(change)


def _clean_mirror(mirror: Mirror, voice: Voice) -> Iterable[Diagnostic]:
    sink, survey = _CleanSink(voice.say), mirror.survey()
    survey.open(sink)
    survey.close(sink)
    return survey.diagnostics


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
