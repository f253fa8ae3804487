"""Making diagnostics: one short call for each finding."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterable

from vjpgen.compiler.source import Source
from vjpgen.diagnostics import Diagnostic, Span


def at_node(
    source: Source,
    code: str,
    message: str,
    node: ast.expr | ast.stmt | ast.alias,
    help: str | None = None,
) -> Diagnostic:
    """A finding at a node of the file; of a function or class, at the line that opens it."""
    span = source.span(node)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        span = Span(span.row, span.column, span.row, len(source.line(span.row)) + 1)
    return Diagnostic(code, message, source.filename, span, help)


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate most like `name`, if any is like it at all; letter case counts little."""
    known = sorted(set(candidates))
    found = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    same = [each for each in known if each.lower() == name.lower()]
    return (same or found or [None])[0]
