"""Findings as SARIF 2.1.0, which code hosts and editors read."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

from vjpgen._version import __version__
from vjpgen.diagnostics import WHOLE_FILE, Diagnostic, Severity, Span
from vjpgen.diagnostics.catalogue import CATALOGUE, Entry
from vjpgen.diagnostics.catalogue.markdown import body
from vjpgen.diagnostics.text import Sources

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_ROOT = "%SRCROOT%"
_FINGERPRINT = "vjpgen/v1"
_PROBLEM = {
    Severity.ERROR: "error",
    Severity.WARNING: "warning",
    Severity.NOTE: "recommendation",
}

ReadSource = Callable[[str], bytes | None]


def render(
    diagnostics: Iterable[Diagnostic], read: ReadSource = lambda _: None, base: str | None = None
) -> str:
    """Return the findings as one SARIF log.

    Args:
        diagnostics: the findings.
        read: gives the bytes of a file by the name that the findings use, or None; a finding is
            known again by the text of its line.
        base: the folder that locations are relative to; None for the current one.
    """
    found = tuple(diagnostics)
    codes = sorted({item.code for item in found})
    folder = os.getcwd() if base is None else base
    prints = _fingerprints(found, Sources(read), folder)
    run = {
        "tool": {"driver": _driver([CATALOGUE[code] for code in codes])},
        "invocations": [{"executionSuccessful": "VJP902" not in codes}],
        "originalUriBaseIds": {_ROOT: {"uri": _folder_uri(folder)}},
        "columnKind": "unicodeCodePoints",
        "results": [
            _result(item, codes.index(item.code), folder, fingerprint)
            for item, fingerprint in zip(found, prints, strict=True)
        ],
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _driver(entries: list[Entry]) -> dict[str, Any]:
    return {"name": "vjpgen", "version": __version__, "rules": [_rule(each) for each in entries]}


def _rule(entry: Entry) -> dict[str, Any]:
    text = f"{entry.explanation} (vjpgen explain {entry.code})"
    return {
        "id": entry.code,
        "shortDescription": {"text": entry.title},
        "fullDescription": {"text": entry.explanation},
        "help": {"text": text, "markdown": body(entry)},
        "defaultConfiguration": {"enabled": entry.default, "level": entry.severity.value},
        "properties": {"problem.severity": _PROBLEM[entry.severity]},
    }


def _result(item: Diagnostic, index: int, base: str, fingerprint: str) -> dict[str, Any]:
    text = item.message if item.help is None else f"{item.message}\nhelp: {item.help}"
    place = {"artifactLocation": _artifact(item.filename, base), "region": _region(item.span)}
    return {
        "ruleId": item.code,
        "ruleIndex": index,
        "level": item.severity.value,
        "message": {"text": text},
        "locations": [{"physicalLocation": place}],
        "partialFingerprints": {_FINGERPRINT: fingerprint},
    }


def _region(span: Span) -> dict[str, int]:
    if span == WHOLE_FILE:
        return {"startLine": 1}
    return {
        "startLine": span.row,
        "startColumn": span.column,
        "endLine": span.end_row,
        "endColumn": span.end_column,
    }


def _artifact(filename: str, base: str) -> dict[str, str]:
    """Name a file relative to the base, or absolutely where it does not lie under it."""
    path = os.path.abspath(os.path.join(base, filename))
    if not path.startswith(os.path.join(os.path.abspath(base), "")):
        return {"uri": Path(path).as_uri()}
    relative = Path(os.path.relpath(path, base)).as_posix()
    return {"uri": quote(os.fsencode(relative)), "uriBaseId": _ROOT}


def _folder_uri(folder: str) -> str:
    return Path(os.path.abspath(folder)).as_uri().rstrip("/") + "/"


def _fingerprints(found: Iterable[Diagnostic], sources: Sources, base: str) -> list[str]:
    """Say of each finding what stays the same when it moves to another line of its file."""
    seen: Counter[tuple[str, str, str]] = Counter()
    prints = []
    for item in found:
        line = "" if item.span == WHOLE_FILE else sources.line(item.filename, item.span.row)
        key = (item.code, _artifact(item.filename, base)["uri"], " ".join(line.split()))
        seen[key] += 1
        text = "\0".join((*key, str(seen[key])))
        prints.append(sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32])
    return prints
