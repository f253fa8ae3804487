"""The options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def common(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add PATHS, --config, --quiet and --verbose."""
    for decorate in reversed(_COMMON):
        command = decorate(command)
    return command


_COMMON: tuple[Decorator, ...] = (
    click.argument("paths", nargs=-1, metavar="[PATHS]..."),
    click.option(
        "--config",
        type=click.Path(exists=True, dir_okay=False),
        help="A configuration laid out as pyproject.toml, used in place of the nearest one.",
    ),
    click.option("-q", "--quiet", is_flag=True, help="Say nothing but the findings."),
    click.option("-v", "--verbose", is_flag=True, help="Say what was left as it is, too."),
)

no_cache: Decorator = click.option(
    "--no-cache", is_flag=True, help="Neither use nor keep what earlier runs found out."
)
jobs: Decorator = click.option(
    "--jobs",
    "-j",
    type=click.IntRange(min=1),
    metavar="N",
    help="Compile in at most N processes; by default as many as help.",
)
force_exclude: Decorator = click.option(
    "--force-exclude", is_flag=True, help="Apply `exclude` to files named outright."
)


out_dir: Decorator = click.option(
    "--out-dir", metavar="DIR", help="Mirror whole packages under DIR instead."
)


class _NewFile(click.Path):
    """A file that can be written, which is found out before the work that fills it."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, writable=True)

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        path = super().convert(value, param, ctx)
        folder = os.path.dirname(path) or "."
        if not os.path.isdir(folder):
            self.fail(f"there is no directory '{folder}' to write {path!r} to", param, ctx)
        if not os.path.exists(path) and not os.access(folder, os.W_OK):
            self.fail(f"the directory '{folder}' does not allow to write {path!r}", param, ctx)
        return path


def html(what: str) -> Decorator:
    """Add --html.

    Args:
        what: what the page shows.
    """
    return click.option(
        "--html", type=_NewFile(), metavar="FILE", help=f"Write a page, too, {what}."
    )


def output_format(*formats: str) -> Decorator:
    """Add --output-format with these formats, the first of which is the default."""
    return click.option(
        "--output-format",
        type=click.Choice(formats),
        default=formats[0],
        show_default=True,
        help="How to print.",
    )


findings_format: Decorator = output_format("text", "json", "github", "sarif")
