"""`vjpgen explain`: what a code means, with an example and its mend."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from textwrap import fill, indent
from typing import Any

import click

from vjpgen.cli import options
from vjpgen.cli.output import wants_color
from vjpgen.diagnostics.catalogue import CATALOGUE, Entry, Example, files_of, fitting, nearest
from vjpgen.diagnostics.catalogue.markdown import body, page, severity


@click.command("explain")
@click.argument("codes", nargs=-1, metavar="[CODE]...")
@click.option("--all", "everything", is_flag=True, help="Explain every code.")
@options.output_format("text", "json", "markdown")
def command(codes: tuple[str, ...], everything: bool, output_format: str) -> None:
    """Explain what a finding means, with an example and its mend.

    CODE is a code, as VJP101, or the beginning of some, as VJP3.
    """
    if everything == bool(codes):
        raise click.UsageError("name a code, as `vjpgen explain VJP101`, or give --all")
    entries = tuple(CATALOGUE.values()) if everything else _chosen(codes)
    if output_format == "markdown" and everything:
        text = page()
    else:
        text = _RENDERERS[output_format](entries)
    click.echo(text, nl=False, color=wants_color(sys.stdout))


def _chosen(codes: Iterable[str]) -> tuple[Entry, ...]:
    """Return the entries that the codes mean, each once."""
    chosen = {entry.code: entry for code in codes for entry in _entries(code)}
    return tuple(chosen.values())


def _entries(code: str) -> tuple[Entry, ...]:
    found = fitting(code)
    if not found:
        close = nearest(code)
        hint = f"; did you mean {close}?" if close else "; `vjpgen explain --all` lists them"
        raise click.UsageError(f"no finding has the code {code!r}{hint}")
    return found


def _text(entries: Iterable[Entry]) -> str:
    return "\n".join("".join(f"{part}\n" for part in _parts(entry)) for entry in entries)


def _parts(entry: Entry) -> Iterator[str]:
    yield f"{click.style(f'{entry.code}: {entry.title}', bold=True)} ({severity(entry)})"
    yield ""
    yield fill(entry.explanation, 88, break_long_words=False, break_on_hyphens=False)
    yield from _example("Found in:", entry.bad)
    yield from _example("Mended:", entry.good)


def _example(title: str, example: Example) -> Iterator[str]:
    files = files_of(example)
    if files:
        yield f"\n{click.style(title, fg='blue')}"
    for name, source in files.items():
        if not isinstance(example, str):
            yield f"\n  {name}"
        yield f"\n{indent(source, '    ').rstrip()}"


def _json(entries: Iterable[Entry]) -> str:
    return json.dumps([_object(entry) for entry in entries], indent=2) + "\n"


def _object(entry: Entry) -> dict[str, Any]:
    return {
        "code": entry.code,
        "title": entry.title,
        "severity": entry.severity.value,
        "default": entry.default,
        "explanation": entry.explanation,
        "bad": files_of(entry.bad),
        "good": files_of(entry.good),
    }


def _markdown(entries: Iterable[Entry]) -> str:
    return "\n".join(
        f"# {entry.code}: {entry.title} ({severity(entry)})\n\n{body(entry)}" for entry in entries
    )


_RENDERERS = {"text": _text, "json": _json, "markdown": _markdown}
