"""The catalogue as Markdown: one finding for a viewer of results, or all of them as a page."""

from __future__ import annotations

from collections.abc import Iterator

from vjpgen.diagnostics.catalogue import CATALOGUE, FAMILIES
from vjpgen.diagnostics.catalogue.entry import Entry, Example, files_of

COMMAND = "vjpgen explain --all --output-format markdown > DIAGNOSTICS.md"

_INTRODUCTION = f"""\
# What vjpgen finds

Made from the catalogue of findings by `{COMMAND}`.

An error fails the command, and no module is written from that source; a warning or a note does
neither. `vjpgen explain CODE` prints a section of this page. Findings that are off by default are
turned on with `extend-select` in `[tool.vjpgen]`; `# vjpgen: ignore[CODE]` silences one line.
"""


def page() -> str:
    """Return the whole catalogue as one page."""
    return "\n".join([_INTRODUCTION, _table(), *map(_family, FAMILIES)])


def body(entry: Entry) -> str:
    """Return what a finding means, with an example and its mend."""
    return "\n\n".join(_parts(entry)) + "\n"


def _table() -> str:
    rows = ["| code | finding | severity |", "|---|---|---|"]
    for entry in CATALOGUE.values():
        link = f"[{entry.code}](#{entry.code.lower()})"
        rows.append(f"| {link} | {entry.title} | {severity(entry)} |")
    return "\n".join(rows) + "\n"


def severity(entry: Entry) -> str:
    """Say how much a finding matters, and whether it is shown by default."""
    return entry.severity.value + ("" if entry.default else ", off by default")


def _family(prefix: str) -> str:
    sections = [_section(entry) for code, entry in CATALOGUE.items() if code.startswith(prefix)]
    return "\n".join([f"## {FAMILIES[prefix]}\n", *sections])


def _section(entry: Entry) -> str:
    title = entry.title[0].upper() + entry.title[1:]
    return f"### {entry.code}\n\n**{title}** ({severity(entry)})\n\n{body(entry)}"


def _parts(entry: Entry) -> Iterator[str]:
    yield entry.explanation
    yield from _example("Found in:", entry.bad)
    yield from _example("Mended:", entry.good)


def _example(title: str, example: Example) -> Iterator[str]:
    files = files_of(example)
    if files:
        yield title
    for name, text in files.items():
        if not isinstance(example, str):
            yield f"`{name}`"
        yield f"```{_language(name)}\n{text.rstrip()}\n```"


def _language(name: str) -> str:
    return {"py": "python", "toml": "toml"}.get(name.rpartition(".")[2], "")
