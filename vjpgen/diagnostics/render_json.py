"""Findings for a program, in the shape that ruff's JSON has."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from vjpgen.diagnostics import Diagnostic


def render(diagnostics: Iterable[Diagnostic]) -> str:
    """Return the findings as a JSON list."""
    return json.dumps([_object(item) for item in diagnostics], indent=2) + "\n"


def _object(item: Diagnostic) -> dict[str, Any]:
    span = item.span
    return {
        "code": item.code,
        "message": item.message,
        "filename": item.filename,
        "location": {"row": span.row, "column": span.column},
        "end_location": {"row": span.end_row, "column": span.end_column},
        "severity": item.severity.value,
        "help": item.help,
        "url": None,
    }
