"""Where generated text goes, and with which lines around it.

Below each annotated function, in its block and at its indentation: the lifted function and the
assignment that puts it in place. At the end of the first imports: the import of the runtime.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping

from vjpgen.compiler.attach import Definition, opening_row
from vjpgen.compiler.edits import Edit
from vjpgen.compiler.lower import Lowered
from vjpgen.compiler.source import Source
from vjpgen.compiler.template import Style, fill, import_line, with_prefix
from vjpgen.compiler.tokens import Comment


def lifted(
    source: Source,
    node: Definition,
    lowered: Lowered,
    comments: Mapping[int, Comment],
    prefix: str,
    unit: str,
) -> Edit:
    """The insertion below one annotated function.

    `comments` are those that have their line to themselves.
    """
    indent = source.line(node.lineno)[: source.start(node)[1]]
    function, assignment = fill(lowered, Style(prefix, unit, indent))
    blank = [""] if indent else ["", ""]
    row = _last_row(source, node, comments)
    return _after_row(source, row, [*blank, *function, *blank, *assignment])


def runtime_import(source: Source, tree: ast.Module, template: str, prefix: str) -> Edit:
    """The insertion of the import that generated code needs."""
    return added_import(source, tree, with_prefix(import_line(template), prefix))


def added_import(source: Source, tree: ast.Module, line: str) -> Edit:
    """The insertion of an import at the end of the first imports."""
    body = list(tree.body)
    opening: ast.stmt | None = None
    while body and (_is_docstring(body[0], tree) or _is_future(body[0])):
        opening = body.pop(0)
    imports: ast.stmt | None = None
    for statement in body:
        if not isinstance(statement, ast.Import | ast.ImportFrom):
            break
        imports = statement
    if imports is not None:
        return _after_row(source, _line_end(tree, imports), [line])
    if opening is not None:
        row = _line_end(tree, opening)
        blank_follows = not source.line(row + 1).strip()
        return _after_row(source, row, ["", line, *([] if blank_follows else [""])])
    return _before_first(source, body[0], line)


def _before_first(source: Source, statement: ast.stmt, line: str) -> Edit:
    """In front of the first statement and the comments that touch it."""
    row = opening_row(source, statement)
    while row > 1 and source.line(row - 1).lstrip().startswith("#"):
        row -= 1
    row = max(row, _first_free_row(source))
    is_block = isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    blank = 2 if is_block else 1
    offset = source.offset((row, 0))
    return Edit(offset, offset, (line + source.newline) + source.newline * blank)


def _first_free_row(source: Source) -> int:
    """The row that the header goes above."""
    from vjpgen.compiler.header import preamble_length

    length = preamble_length(source.data) - len(source.bom)
    return source.data[len(source.bom) :][:length].count(b"\n") + 1


def _after_row(source: Source, row: int, lines: list[str]) -> Edit:
    """Insert whole lines below a row, which may be the last one and lack its newline."""
    newline = source.newline
    offset = source.starts[row]
    text = newline.join(lines)
    ended = source.lines[row - 1][-1:] in ("\n", "\r")
    return Edit(offset, offset, text + newline if ended else newline + text)


def _last_row(source: Source, node: Definition, comments: Mapping[int, Comment]) -> int:
    """A function's last row, the comments that are indented as its body included."""
    assert node.end_lineno is not None
    last = node.end_lineno
    column = source.start(node)[1]
    for row in range(last + 1, len(source.lines) + 1):
        if row in comments and comments[row].column > column:
            last = row
        elif source.line(row).strip():
            break
    return last


def _line_end(tree: ast.Module, statement: ast.stmt) -> int:
    """The row that ends a statement and all that stands on its lines after a semicolon."""
    row = statement.end_lineno or statement.lineno
    for other in tree.body:
        if other.lineno <= row:
            row = max(row, other.end_lineno or other.lineno)
    return row


def _is_docstring(statement: ast.stmt, tree: ast.Module) -> bool:
    return (
        statement is tree.body[0]
        and isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _is_future(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.ImportFrom) and statement.module == "__future__"
