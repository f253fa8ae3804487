"""`vjpgen verify`: test the rules numerically, each against autodiff of its source."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING

import click

from vjpgen.cli import options
from vjpgen.cli.output import Progress, Voice, exit_status, print_findings, wants_color
from vjpgen.cli.usage import usage_errors
from vjpgen.verifying.requests import Manner
from vjpgen.verifying.targets import Target, find_targets

if TYPE_CHECKING:
    from vjpgen.testing.report import RuleReport

_FAILED, _USAGE, _INTERRUPTED = 1, 2, 130


@click.command("verify")
@options.common
@options.force_exclude
@click.option(
    "-k",
    "--select",
    "patterns",
    multiple=True,
    metavar="PATTERN",
    help="Verify the rules whose FILE::FUNCTION holds this text or fits this pattern, as `Net.*`;"
    " may be given several times.",
)
@click.option(
    "--require-examples", is_flag=True, help="Fail the rules that have no example to call them on."
)
@click.option(
    "--seed",
    type=click.IntRange(min=0, max=2**32 - 1),
    default=0,
    show_default=True,
    metavar="N",
    help="What the keys of examples and all random directions come from.",
)
@click.option(
    "--directions",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    metavar="N",
    help="How many random directions are compared.",
)
@click.option(
    "--time-limit",
    type=click.FloatRange(min=0, min_open=True),
    default=120.0,
    show_default=True,
    metavar="SECONDS",
    help="How long one rule may take, and the import of its module.",
)
@options.html("with plots")
@options.output_format("text", "json")
@click.pass_context
def command(
    ctx: click.Context,
    paths: tuple[str, ...],
    config: str | None,
    quiet: bool,
    verbose: bool,
    force_exclude: bool,
    patterns: tuple[str, ...],
    require_examples: bool,
    seed: int,
    directions: int,
    time_limit: float,
    html: str | None,
    output_format: str,
) -> None:
    """Test the rules under PATHS numerically, each against autodiff of its own source.

    Each rule is called on what the function returns that its annotation names as `example`. Your
    modules are compiled in memory and imported, and their code runs, in a process of its own: a
    rule that hangs or crashes is reported, and the others are verified.
    """
    voice = Voice(quiet, verbose)
    config = config and os.path.abspath(config)
    with usage_errors():
        found = find_targets(paths, config, force_exclude=force_exclude)
    print_findings(found.diagnostics, "text", to_stderr=True)
    for name in found.drifted:
        voice.say(f"{name} is not what its source gives now: verified is what build would write")
    chosen = tuple(found.selected(patterns))
    if found.rules and not chosen:
        raise click.UsageError(f"no rule fits {' or '.join(patterns)}; `vjpgen list` shows them")
    reports: list[RuleReport] = []
    manner = Manner(seed, directions, time_limit, config)
    status = _verify(chosen, manner, require_examples, voice, reports)
    if not status or reports:
        _print(reports, manner, output_format, voice)
    if html is not None:
        _write_page(html, reports, voice)
    failed = any(each.status not in ("verified", "unverified") for each in reports)
    ctx.exit(status or max(exit_status(found.diagnostics), _FAILED * failed))


class _NotStarted(click.ClickException):
    exit_code = _USAGE


def _verify(
    chosen: Sequence[Target],
    manner: Manner,
    require_examples: bool,
    voice: Voice,
    reports: list[RuleReport],
) -> int:
    """Verify one rule after the other; return the status where that did not come to its end."""
    from vjpgen.verifying.verifier import StartError, Verifier, without_example_fails

    total = len(chosen)
    progress = Progress(voice, start=-inf)
    try:
        with Verifier(manner) as verifier:
            for number, target in enumerate(chosen):
                progress(number, total, target.id)
                outcome = verifier.verify(target)
                fails = require_examples and without_example_fails
                reports.append(fails(outcome.report) if fails else outcome.report)
                for line in outcome.printed.splitlines():
                    voice.whisper(f"{target.id}: {line}")
    except StartError as error:
        raise _NotStarted(str(error)) from None
    except KeyboardInterrupt:
        left = total - len(reports)
        voice.say(f"Interrupted: {left} rule{'s are' if left > 1 else ' is'} not verified")
        return _INTERRUPTED
    finally:
        progress(total, total)
    return 0


def _print(reports: Sequence[RuleReport], manner: Manner, output_format: str, voice: Voice) -> None:
    if output_format == "json":
        from vjpgen.verifying import render_json

        click.echo(render_json.render(reports), nl=False)
        return
    from vjpgen.verifying import render_text

    color = wants_color(sys.stdout)
    text = render_text.render(reports, manner, verbose=voice.verbose, color=color)
    click.echo(text, nl=False, color=True)
    voice.say(render_text.summary(reports))


def _write_page(path: str, reports: Sequence[RuleReport], voice: Voice) -> None:
    from vjpgen.testing import render_html

    with open(path, "w", encoding="utf-8") as file:
        file.write(render_html.page(reports))
    voice.say(f"Wrote {path}")
