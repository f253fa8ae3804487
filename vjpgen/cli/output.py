"""Printing findings, and the exit status that they mean."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from shutil import get_terminal_size
from typing import TextIO

import click

from vjpgen.building.files import read
from vjpgen.diagnostics import Diagnostic
from vjpgen.diagnostics.text import shown

ReadSource = Callable[[str], bytes | None]
_QUIET_SECONDS = 0.5


@dataclass(frozen=True)
class Voice:
    """How much is said besides the findings; all of it goes to standard error."""

    quiet: bool = False
    verbose: bool = False

    def say(self, line: str) -> None:
        """Say what was done."""
        if not self.quiet:
            _tell(line)

    def whisper(self, line: str) -> None:
        """Say what only the curious want to know."""
        if self.verbose and not self.quiet:
            _tell(line)


def _tell(line: str) -> None:
    """Print a line to standard error; a build does not fail because nobody can hear of it."""
    with suppress(OSError):
        click.echo(shown(line), err=True)


@dataclass
class Progress:
    """A count on the terminal during long work; nothing in a pipe."""

    voice: Voice
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    start: float = field(default_factory=time.monotonic)
    shown: bool = False

    def __call__(self, done: int, total: int, now: str = "") -> None:
        """Show how far the work is, and what comes now; wipe it out at the end."""
        if self.voice.quiet or not self.stream.isatty():
            return
        if done >= total:
            if self.shown:
                self.stream.write("\r\x1b[K")
        elif time.monotonic() - self.start > _QUIET_SECONDS:
            line = f"{done}/{total} {shown(now)}".rstrip()[: get_terminal_size().columns - 1]
            self.stream.write(f"\r\x1b[K{line}")
            self.shown = True
        self.stream.flush()


def read_source(name: str) -> bytes | None:
    """Read a file for its excerpt, if it can be read."""
    try:
        return read(name)
    except OSError:
        return None


def print_findings(
    found: tuple[Diagnostic, ...],
    form: str,
    *,
    to_stderr: bool = False,
    read: ReadSource = read_source,
) -> None:
    """Print the findings in one of the formats."""
    stream = sys.stderr if to_stderr else sys.stdout
    click.echo(_render(found, form, read, wants_color(stream)), nl=False, file=stream, color=True)


def _render(found: tuple[Diagnostic, ...], form: str, read: ReadSource, color: bool) -> str:
    if form == "json":
        from vjpgen.diagnostics import render_json

        return render_json.render(found)
    if form == "sarif":
        from vjpgen.diagnostics import render_sarif

        return render_sarif.render(found, read)
    if form == "github":
        from vjpgen.diagnostics import render_github

        return render_github.render(found)
    if not found:
        return ""
    from vjpgen.diagnostics import render_text

    return render_text.render(found, read, color=color)


def wants_color(stream: TextIO) -> bool:
    """Whether to use colours: on a terminal, unless the environment says otherwise."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def exit_status(found: Iterable[Diagnostic]) -> int:
    """0 for no error, 1 for a finding of that severity, 2 where a file could not be used."""
    errors = {item.code for item in found if item.is_error}
    if "VJP902" in errors:
        return 2
    return 1 if errors else 0
