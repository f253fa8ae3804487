"""Findings as SARIF 2.1.0, which code hosts and editors read."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from vjpgen._version import __version__
from vjpgen.diagnostics import Diagnostic
from vjpgen.diagnostics.catalogue import CATALOGUE, Entry

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def render(diagnostics: Iterable[Diagnostic], base: str | None = None) -> str:
    """Return the findings as one SARIF log; locations are relative to `base`."""
    found = tuple(diagnostics)
    codes = sorted({item.code for item in found})
    folder = os.getcwd() if base is None else base
    run = {
        "tool": {"driver": _driver([CATALOGUE[code] for code in codes])},
        "columnKind": "unicodeCodePoints",
        "results": [_result(item, codes.index(item.code), folder) for item in found],
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _driver(entries: list[Entry]) -> dict[str, Any]:
    return {"name": "vjpgen", "version": __version__, "rules": [_rule(each) for each in entries]}


def _rule(entry: Entry) -> dict[str, Any]:
    return {
        "id": entry.code,
        "shortDescription": {"text": entry.title},
        "fullDescription": {"text": entry.explanation},
        "help": {"text": f"vjpgen explain {entry.code}"},
        "defaultConfiguration": {"level": entry.severity.value},
    }


def _result(item: Diagnostic, index: int, base: str) -> dict[str, Any]:
    span = item.span
    text = item.message if item.help is None else f"{item.message}\nhelp: {item.help}"
    region = {
        "startLine": span.row,
        "startColumn": span.column,
        "endLine": span.end_row,
        "endColumn": span.end_column,
    }
    place = {"artifactLocation": {"uri": _uri(item.filename, base)}, "region": region}
    return {
        "ruleId": item.code,
        "ruleIndex": index,
        "level": item.severity.value,
        "message": {"text": text},
        "locations": [{"physicalLocation": place}],
    }


def _uri(filename: str, base: str) -> str:
    path = os.path.join(base, filename)
    try:
        return quote(os.fsencode(Path(os.path.relpath(path, base)).as_posix()))
    except ValueError:  # another drive
        return Path(path).as_uri()
