"""`vjpgen lsp`: the language server for editors."""

from __future__ import annotations

import click

from vjpgen.cli.usage import usage_errors
from vjpgen.config import load_config


@click.command("lsp")
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False),
    help="A configuration laid out as pyproject.toml, used in place of the nearest one.",
)
@click.pass_context
def command(ctx: click.Context, config: str | None) -> None:
    """Serve an editor over standard input and output.

    Findings as you type, what a rule generates, the way to its functions, completion of keys, and
    skeletons of missing rules. It wants the extra `lsp`: pip install 'vjpgen[lsp]'.
    """
    try:
        import pygls  # noqa: F401
    except ImportError:
        click.echo("vjpgen lsp needs pygls: pip install 'vjpgen[lsp]'", err=True)
        ctx.exit(2)
    if config is not None:
        with usage_errors():
            load_config(config)
    from vjpgen.lsp.server import start

    ctx.exit(start(config))
