"""`vjpgen list`: every annotated function with its rule."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import click

from vjpgen.building.pipeline import Means, check
from vjpgen.building.scope import open_scope
from vjpgen.cli import options
from vjpgen.cli.output import Progress, Voice, exit_status, print_findings
from vjpgen.cli.usage import usage_errors
from vjpgen.compiler import RuleInfo
from vjpgen.diagnostics.table import table

_HEADINGS = ("FUNCTION", "TARGET", "WHERE", "RULE")


@click.command("list")
@options.common
@options.out_dir
@options.force_exclude
@options.jobs
@options.no_cache
@options.output_format("text", "json")
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
    """List the annotated functions under PATHS with their rules."""
    with usage_errors():
        scope = open_scope(paths, config, out_dir, no_cache=no_cache)
        gathered = scope.gather(force_exclude=force_exclude)
        todo = scope.jobs(gathered)
    progress = Progress(Voice(quiet, verbose))
    report = check(gathered, todo, Means(scope.caches, jobs, progress))
    print_findings(report.found, "text", to_stderr=True)
    click.echo(_json(report.rules) if output_format == "json" else _table(report.rules), nl=False)
    ctx.exit(exit_status(report.diagnostics))


def _json(rules: Iterable[RuleInfo]) -> str:
    return json.dumps([_object(rule) for rule in rules], indent=2) + "\n"


def _object(rule: RuleInfo) -> dict[str, Any]:
    return {
        **rule.keys,
        "name": rule.name,
        "target": rule.target,
        "filename": rule.filename,
        "location": {"row": rule.span.row, "column": rule.span.column},
    }


def _table(rules: Iterable[RuleInfo]) -> str:
    rows = [_row(rule) for rule in rules]
    return "".join(f"{line}\n" for line in table(_HEADINGS, rows)) if rows else ""


def _row(rule: RuleInfo) -> tuple[str, ...]:
    where = f"{rule.filename}:{rule.span.row}"
    keys = ", ".join(f"{key}={' '.join(value.split())}" for key, value in rule.keys.items())
    return rule.name, rule.target, where, keys
