"""Reading a file in every way that a later stage needs, and what can go wrong at that.

Python's own parser decides what is a source file; libcst must give back every byte of it.
"""

from __future__ import annotations

import ast
import tokenize
from dataclasses import dataclass

import libcst as cst

from vjpgen.compiler.nesting import is_too_deep
from vjpgen.compiler.source import Source, decode
from vjpgen.compiler.tokens import Comment, read_comments
from vjpgen.diagnostics import WHOLE_FILE, Diagnostic, Span


@dataclass(frozen=True)
class Parsed:
    """A file, read in every way that a stage needs."""

    source: Source
    tree: ast.Module
    module: cst.Module
    comments: tuple[Comment, ...]


def read(data: bytes, filename: str) -> Parsed | Diagnostic | None:
    """Decode, parse and tokenize; a finding where that fails, None where nothing is annotated."""
    try:
        tree = ast.parse(data, filename)
        source = decode(data, filename)
        comments = read_comments(source)
    except (SyntaxError, ValueError, tokenize.TokenError) as error:
        return _does_not_parse(filename, error)
    if not any(c.is_annotation or c.looks_like_annotation for c in comments):
        return None
    if is_too_deep(source, tree):
        return too_deep(filename)
    module = _concrete(source)
    if isinstance(module, str):
        return not_carried(filename, module)
    return Parsed(source, tree, module, comments)


def _concrete(source: Source) -> cst.Module | str:
    """libcst's tree, or why there is none; what libcst raises for odd sources has no one class."""
    try:
        module = cst.parse_module(source.data)
        kept = module.bytes == source.data and source.encode(source.text) == source.data
    except (KeyboardInterrupt, SystemExit, RecursionError, MemoryError):
        raise
    except BaseException as error:
        return f"libcst cannot read it ({type(error).__name__})"
    return module if kept else "a form feed or a lone carriage return would be lost"


def compile_error(source: Source) -> Diagnostic | None:
    """What Python's compiler, and not its parser, finds wrong with the source."""
    try:
        compile(source.data, source.filename, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        return _does_not_parse(source.filename, error)
    return None


def _does_not_parse(filename: str, error: Exception) -> Diagnostic:
    row = column = 1
    end_row = end_column = 0
    message = str(error)
    if isinstance(error, SyntaxError):
        row, column = error.lineno or 1, max(error.offset or 1, 1)
        end_row, end_column = error.end_lineno or 0, error.end_offset or 0
        message = error.msg
    if (end_row, end_column) <= (row, column):
        end_row, end_column = row, column + 1
    span = Span(row, column, end_row, end_column)
    return Diagnostic("VJP008", f"the file does not parse: {message}", filename, span)


def not_carried(filename: str, why: str) -> Diagnostic:
    """The finding that no output would hold the source unchanged."""
    message = f"the source cannot be carried over byte for byte: {why}"
    return Diagnostic("VJP903", message, filename, WHOLE_FILE)


def too_deep(filename: str) -> Diagnostic:
    """The finding that reading the source needs more stack than there is."""
    message = "the source is nested too deeply to be compiled"
    help_ = "break the deepest expression into named parts"
    return Diagnostic("VJP903", message, filename, WHOLE_FILE, help_)
