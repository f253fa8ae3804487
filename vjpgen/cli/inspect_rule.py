"""`vjpgen inspect`: what one rule keeps, costs and needs, beside plain autodiff."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, NoReturn

import click

from vjpgen.cli import options
from vjpgen.cli.output import Voice
from vjpgen.compiler import RuleInfo
from vjpgen.diagnostics.text import shown
from vjpgen.importing.errors import CompileError
from vjpgen.importing.loading import Source, UnknownModuleError, find, hooked, load, rules
from vjpgen.importing.settings import Settings

if TYPE_CHECKING:
    from vjpgen.inspecting.report import Report
    from vjpgen.runtime.rule import Rule

_USAGE, _FINDING = 2, 1


@click.command("inspect")
@click.argument("target", metavar="MODULE:FUNCTION")
@click.option(
    "--set",
    "number",
    type=click.IntRange(min=1),
    default=1,
    metavar="N",
    help="Take the N-th set of arguments that the example returns, counted from 1.",
)
@options.html("which draws memory over the step")
@options.output_format("text", "json")
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False),
    help="A configuration laid out as pyproject.toml, used in place of the nearest one.",
)
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but the report and errors.")
@click.option("-v", "--verbose", is_flag=True, help="Show the rule's jaxprs, too.")
def command(
    target: str,
    number: int,
    html: str | None,
    output_format: str,
    config: str | None,
    quiet: bool,
    verbose: bool,
) -> None:
    """Compare what a rule keeps for the backward pass, costs and needs with plain autodiff.

    MODULE is an import path (pkg.model) or a file (src/model.py). FUNCTION is the qualified name
    of an annotated function (Net.__call__), or of a class that has one rule. The annotation's
    `example` gives the arguments. The source is compiled in memory.

    The module is imported, and its code run, in this process.
    """
    settings = Settings(False, config and os.path.abspath(config), os.getcwd(), quiet)
    with _reported():
        name, function = _parted(target)
        source = find(name)
        asked = _asked(rules(source, settings), function, name)
        with redirect_stdout(sys.stderr), hooked(source, settings):
            report = _report(source, asked, settings, number)
    click.echo(_text(report, output_format, verbose), nl=False)
    if html is not None:
        from vjpgen.inspecting import render_html

        with open(html, "w", encoding="utf-8") as file:
            file.write(render_html.render(report))
        Voice(quiet, verbose).say(f"Wrote {html}")


def _text(report: Report, output_format: str, verbose: bool) -> str:
    if output_format == "json":
        from vjpgen.inspecting import render_json

        return render_json.render(report)
    from vjpgen.inspecting import render_text

    return render_text.render(report, verbose=verbose)


# -- what is asked for -----------------------------------------------------------------------------


def _parted(target: str) -> tuple[str, str]:
    """Part module and function; a colon of a path (`C:\\model.py`) parts nothing."""
    name, _, function = target.rpartition(":")
    if not name or "/" in function or os.sep in function:
        return target, ""
    return name, function


@dataclass(frozen=True)
class _Asked:
    """What the command line asks for.

    Args:
        name: a function's qualified name.
        info: its annotation; None where none is seen in the source.
        unknown: what to say where there is no such rule.
    """

    name: str
    info: RuleInfo | None
    unknown: str = ""


def _asked(found: Sequence[RuleInfo], function: str, module: str) -> _Asked:
    """Find the rule that a name means: its own, or that of the class that has no other."""
    if not found and not function:
        raise click.UsageError(f"{module} has no annotated function")
    exact = [info for info in found if info.name == function]
    inside = [info for info in found if info.name.startswith(f"{function}.") or not function]
    if exact or len(inside) == 1:
        info = (exact or inside)[0]
        return _Asked(info.name, info)
    if inside:
        what = f"`{function}` has several rules" if function else "no function is named"
        raise click.UsageError(_listed(f"{what}; there are:", module, inside))
    close = get_close_matches(function, _names(found), n=1, cutoff=0.5)
    hint = f"; did you mean `{close[0]}`?" if close else ""
    what = f"{module} has no rule on `{function}`{hint}"
    there = f"{' There' if close else '; there'} are:"
    return _Asked(function, None, _listed(f"{what}{there}", module, found) if found else what)


def _names(found: Sequence[RuleInfo]) -> list[str]:
    """The names of functions, and those of the classes that hold them."""
    names = {info.name for info in found}
    return sorted({*names, *(name.partition(".")[0] for name in names)})


def _listed(what: str, module: str, found: Sequence[RuleInfo]) -> str:
    return _printable("\n".join((what, *(f"  {module}:{info.name}" for info in found))))


def _printable(text: str) -> str:
    return "\n".join(map(shown, text.splitlines()))


# -- measuring -------------------------------------------------------------------------------------


def _report(source: Source, asked: _Asked, settings: Settings, number: int) -> Report:
    """Import the module, call the example, and measure."""
    with _said_of(f"importing {source.name} failed", _USAGE):
        module = load(source, settings)
    from vjpgen.inspecting.measure import About, measure
    from vjpgen.testing.examples import argument_sets
    from vjpgen.testing.finding import find_rule, inherited
    from vjpgen.testing.subjects import bind

    name = asked.name if asked.info else inherited(module, asked.name)
    if name is None:
        raise click.UsageError(asked.unknown)
    with _said_of(f"the example of `{name}` failed", _USAGE):
        found = find_rule(module, name, asked.info.keys if asked.info else {})
        sets = argument_sets(found.example)
    if number > len(sets):
        count = f"{len(sets)} sets" if len(sets) > 1 else "one set"
        raise click.UsageError(f"--set {number}: the example returns {count} of arguments")
    with _said_of(f"`{found.called}` failed on {found.given}", _USAGE):
        arguments = sets[number - 1]
        grad_vars = found.grad_vars
        subject = bind(found.function, arguments, found.rule, grad_vars=grad_vars, abstract=True)
    place = _place(asked.info, found.rule)
    with _said_of(f"the rule of `{name}` ({place}) failed on {found.given}", _FINDING):
        return measure(subject, About(name, place, found.called, source.project))


def _place(info: RuleInfo | None, rule: Rule | None) -> str:
    """Return file and line of an annotation."""
    if info is not None:
        return f"{info.filename}:{info.span.row}"
    return "" if rule is None else rule.at


@contextmanager
def _reported() -> Iterator[None]:
    """Turn what is wrong with the command line or the source into a message and a status."""
    try:
        yield
    except UnknownModuleError as error:
        raise click.UsageError(shown(str(error))) from None
    except CompileError as error:
        _end(str(error), _FINDING if error.diagnostics else _USAGE)


@contextmanager
def _said_of(what: str, status: int) -> Iterator[None]:
    """Report a failure of the user's code with the user's frames alone."""
    try:
        yield
    except (CompileError, click.ClickException):
        raise
    except (Exception, SystemExit) as error:
        from vjpgen.testing.examples import ExampleError
        from vjpgen.testing.failures import described
        from vjpgen.testing.finding import NotFoundError

        if isinstance(error, (ExampleError, NotFoundError)):
            raise click.UsageError(_printable(str(error))) from None
        _end(f"Error: {what}\n{described(error).rstrip()}", status)


def _end(text: str, status: int) -> NoReturn:
    click.echo(text, err=True)
    sys.exit(status)
