"""`vjpgen run`: run a program with the annotated modules of its project compiled at import."""

from __future__ import annotations

import os

import click

from vjpgen.cli.launch import Launch
from vjpgen.importing.running import Program
from vjpgen.importing.settings import Settings

_WITH_VALUE = ("--config",)


class _Command(click.Command):
    """Reads its own options up to the script or module; all that follows is the program's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        count = _own(args)
        ctx.meta["program"] = tuple(args[count:])
        return super().parse_args(ctx, args[:count])


def _own(args: list[str]) -> int:
    """How many arguments come before the program's own."""
    at = 0
    while at < len(args):
        word = args[at]
        if word == "--":
            return min(at + 2, len(args))
        if not word.startswith("-") or (word.startswith("-m") and len(word) > 2):
            return at + 1
        if word == "-m":
            return min(at + 2, len(args))
        at += 2 if word in _WITH_VALUE else 1
    return len(args)


@click.command("run", cls=_Command, options_metavar="[OPTIONS]")
@click.option("-m", "module", metavar="MODULE", help="Run a module, as `python -m` does.")
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False),
    help="A configuration laid out as pyproject.toml, used in place of the nearest one.",
)
@click.option(
    "--plain-on-error",
    is_flag=True,
    help="Run a module that has errors plain, without its rules, after showing them.",
)
@click.option("-q", "--quiet", is_flag=True, help="Show no warnings, only errors.")
@click.argument("script", required=False, metavar="SCRIPT | -m MODULE [ARGS]...")
@click.pass_context
def command(
    ctx: click.Context,
    module: str | None,
    config: str | None,
    plain_on_error: bool,
    quiet: bool,
    script: str | None,
) -> None:
    """Run a program as python does, its project's annotated modules compiled at import.

    SCRIPT is a file, or a folder or archive that holds a `__main__.py`; it is compiled, too.
    What stands behind it, or behind the name of a MODULE, is left to the program.
    """
    target = module or script
    if target is None:
        raise click.UsageError("name a script, or a module as in `vjpgen run -m pkg.train`")
    if module is None and not os.path.exists(target):
        raise click.UsageError(f"{target}: no such file or folder")
    config = None if config is None else os.path.abspath(config)
    settings = Settings(plain_on_error, config, os.getcwd(), quiet)
    raise Launch(Program(target, module is not None, ctx.meta["program"], settings))
