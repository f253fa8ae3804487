"""`vjpgen explain`: what a code means, with an example and its mend."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import fill, indent

import click

from vjpgen.diagnostics.catalogue import CATALOGUE, Entry, nearest


@click.command("explain")
@click.argument("codes", nargs=-1, metavar="[CODE]...")
@click.option("--all", "everything", is_flag=True, help="Explain every code.")
def command(codes: tuple[str, ...], everything: bool) -> None:
    """Explain what a finding means, with an example and its mend."""
    if everything == bool(codes):
        raise click.UsageError("name a code, as `vjpgen explain VJP101`, or give --all")
    entries = CATALOGUE.values() if everything else [_entry(code) for code in codes]
    click.echo("\n".join(_text(entry) for entry in entries), nl=False)


def _entry(code: str) -> Entry:
    entry = CATALOGUE.get(code.upper())
    if entry is None:
        close = nearest(code)
        hint = f"; did you mean {close}?" if close else "; `vjpgen explain --all` lists them"
        raise click.UsageError(f"no finding has the code {code!r}{hint}")
    return entry


def _text(entry: Entry) -> str:
    return "".join(f"{part}\n" for part in _parts(entry))


def _parts(entry: Entry) -> Iterator[str]:
    kind = entry.severity.value + ("" if entry.default else ", off by default")
    yield f"{entry.code}: {entry.title} ({kind})"
    yield ""
    yield fill(entry.explanation, 88, break_long_words=False, break_on_hyphens=False)
    for title, source in (("Found in:", entry.bad), ("Mended:", entry.good)):
        if source:
            yield f"\n{title}\n"
            yield indent(source, "    ").rstrip("\n")
