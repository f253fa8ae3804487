"""How the command line of `vjpgen build` wants the results."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass

import click

from vjpgen.building.pipeline import Report
from vjpgen.building.sinks import CheckSink, DiffSink, Sink, WriteSink
from vjpgen.cli.output import Voice, exit_status
from vjpgen.diagnostics.text import shown, split_lines


@dataclass(frozen=True)
class Wishes:
    """How the command line wants the results."""

    check: bool
    diff: bool
    output_format: str
    fail_on_change: bool
    stats: bool
    voice: Voice
    out_dir: str | None

    @property
    def writes(self) -> bool:
        """Whether files are changed."""
        return not (self.check or self.diff)

    @property
    def verb(self) -> str:
        """What is done to files that differ."""
        return "changed" if self.writes else "would change"

    def sink(self) -> Sink:
        """Return what takes the differences."""
        if self.diff:
            return DiffSink(_print, check=self.check, command=self._command)
        return CheckSink(self._command) if self.check else WriteSink(self.voice.say)

    @property
    def _command(self) -> str:
        """What writes that which is only looked at here."""
        given = () if self.out_dir is None else ("--out-dir", self.out_dir)
        return shlex.join(("vjpgen", "build", *given))

    def status(self, report: Report, changes: int) -> int:
        """Return the exit status of a run that made, or would make, so many changes."""
        status = exit_status(report.diagnostics)
        fails = not self.writes or self.fail_on_change
        return 1 if status == 0 and changes and fails else status


def _print(text: str) -> None:
    if sys.stdout.isatty():
        text = "\n".join(map(shown, split_lines(text)))
    click.echo(text, nl=False, color=True)  # as it is: it may be meant for `patch`
