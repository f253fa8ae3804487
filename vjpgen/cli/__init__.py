"""The command line: one module a command, each loaded when it is called."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from difflib import get_close_matches
from importlib import import_module
from io import TextIOWrapper
from typing import NoReturn

import click

from vjpgen._version import __version__
from vjpgen.cli.launch import Launch

_COMMANDS = {
    "build": "vjpgen.cli.build",
    "check": "vjpgen.cli.check",
    "clean": "vjpgen.cli.clean",
    "explain": "vjpgen.cli.explain",
    "inspect": "vjpgen.cli.inspect_rule",
    "list": "vjpgen.cli.list_rules",
    "run": "vjpgen.cli.run",
    "lsp": "vjpgen.cli.lsp",
    "verify": "vjpgen.cli.verify",
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = _COMMANDS.get(cmd_name)
        return None if module is None else import_module(module).command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            close = get_close_matches(args[0], _COMMANDS, n=1, cutoff=0.5)
            hint = f"; did you mean `{close[0]}`?" if close else ""
            raise click.UsageError(f"no command is called `{args[0]}`{hint}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="vjpgen %(version)s")
@click.pass_context
def group(ctx: click.Context) -> None:
    """Turn the comment above a JAX or Flax function into an explicit, lifted custom_vjp.

    Exit status: 0 all well, 1 findings, 2 wrong usage or configuration, or a file that could
    not be read or written.
    """
    if ctx.invoked_subcommand != "run":  # a program's output is its own
        _print_anything()


def main() -> None:
    """Run the command line with the process's arguments."""
    launched: Launch | None = None
    _open_closed_streams()
    try:
        try:
            group(prog_name="vjpgen", obj=tuple(sys.argv[1:]))
        finally:
            sys.stdout.flush()
    except Launch as launch:
        launched = launch
    except OSError as error:
        _fail(error)
    if launched is not None:  # here, so that no exception is being handled while a program runs
        launched.program.run()


def _open_closed_streams() -> None:
    """Let output that was closed outright go nowhere, as output to a closed pipe does."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115


def _fail(error: OSError) -> NoReturn:
    """End where the output cannot be written, or the system refuses what no finding is about."""
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - else it is flushed once more at the end
    if not isinstance(error, BrokenPipeError):
        with suppress(OSError):
            print(f"Error: {error}", file=sys.stderr)
    sys.exit(1 if isinstance(error, BrokenPipeError) else 2)


def _print_anything() -> None:
    """Let no name or source text fail to print for want of an encoding."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
