"""Findings as the workflow commands that GitHub turns into annotations of a pull request."""

from __future__ import annotations

import os
from collections.abc import Iterable

from vjpgen.diagnostics import WHOLE_FILE, Diagnostic, Severity, Span
from vjpgen.diagnostics.text import shown

_COMMANDS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "notice"}


def render(diagnostics: Iterable[Diagnostic]) -> str:
    """Return one workflow command a line."""
    return "".join(f"{_command(item)}\n" for item in diagnostics)


def _command(item: Diagnostic) -> str:
    span = item.span
    properties = {
        "title": f"vjpgen ({item.code})",
        "file": item.filename.replace(os.sep, "/"),
        **_region(span),
    }
    listed = ",".join(f"{key}={_property(value)}" for key, value in properties.items())
    text = f"{item.filename}:{span.row}:{span.column}: {item.code} {item.message}"
    if item.help is not None:
        text += f"\nhelp: {item.help}"
    text = "\n".join(map(shown, text.split("\n")))
    return f"::{_COMMANDS[item.severity]} {listed}::{_data(text)}"


def _region(span: Span) -> dict[str, str]:
    """Return where the annotation goes; GitHub takes columns within one line alone."""
    if span == WHOLE_FILE:
        return {"line": "1"}
    rows = {"line": str(span.row), "endLine": str(span.end_row)}
    columns = {"col": str(span.column), "endColumn": str(span.end_column)}
    return rows if span.row != span.end_row else {**rows, **columns}


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
