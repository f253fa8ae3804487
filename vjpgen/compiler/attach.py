"""Which function each annotation belongs to.

libcst says which comments stand above, between and below a function's decorators and at the end
of its signature; `ast` says in which rows. The two are walked alike: the n-th `def` of one tree
is the n-th `def` of the other.
"""

from __future__ import annotations

import ast
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import libcst as cst

from vjpgen.compiler.nesting import BLOCKS
from vjpgen.compiler.report import at_node
from vjpgen.compiler.source import Source, span_between
from vjpgen.compiler.tokens import Comment
from vjpgen.diagnostics import Diagnostic

Definition = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Site:
    """An annotation's comment lines, and the function that they annotate."""

    comments: tuple[Comment, ...]
    node: Definition


def attach(
    source: Source, tree: ast.Module, module: cst.Module, comments: Sequence[Comment]
) -> tuple[tuple[Site, ...], tuple[Diagnostic, ...]]:
    """Attach each annotation to its function; report each one that belongs to none."""
    by_row = {comment.row: comment for comment in comments if comment.is_annotation}
    own_lines = frozenset(comment.row for comment in comments if comment.own_line)
    sites: list[Site] = []
    findings: list[Diagnostic] = []
    pairs = zip(_cst_definitions(module), ast_definitions(tree), strict=True)
    for concrete, node in pairs:
        lines = [by_row.pop(row) for row in _rows(source, module, concrete, node) if row in by_row]
        groups = _adjacent(lines, own_lines)
        sites.extend(Site(group, node) for group in groups[:1])
        findings.extend(_second(source, node, group) for group in groups[1:])
    groups = _adjacent(list(by_row.values()), own_lines)
    statements = _statements(tree) if groups else {}
    findings.extend(_unattached(source, statements, group) for group in groups)
    return tuple(sites), tuple(findings)


def ast_definitions(node: ast.AST) -> Iterator[Definition]:
    """Every `def` below a node, in the order of the file."""
    for name in BLOCKS:
        block = getattr(node, name, ())
        for child in block if isinstance(block, list) else ():
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield child
            yield from ast_definitions(child)


def _cst_definitions(node: cst.CSTNode) -> Iterator[cst.FunctionDef]:
    """The same of libcst's tree; no expression is entered."""
    for name in BLOCKS:
        block = getattr(node, name, ())
        children = block if isinstance(block, tuple | list) else (block,)
        for child in children:
            if isinstance(child, cst.SimpleStatementLine | cst.SimpleStatementSuite):
                continue
            if isinstance(child, cst.FunctionDef):
                yield child
            if isinstance(child, cst.CSTNode):
                yield from _cst_definitions(child)


def opening_row(source: Source, node: ast.stmt) -> int:
    """The row that a statement begins in, with the `@` of its first decorator."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return decorator_row(source, decorators[0]) if decorators else node.lineno


def decorator_row(source: Source, decorator: ast.expr) -> int:
    """The row of a decorator's `@`, which may stand above: `@(` and the rest on the next line."""
    row = decorator.lineno
    while row > 1 and not source.line(row).lstrip().startswith("@"):
        row -= 1
    return row


def first_row(node: ast.stmt) -> int:
    """The row that a statement begins in, its decorators included, as `ast` has it."""
    decorators = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def _rows(
    source: Source, module: cst.Module, concrete: cst.FunctionDef, node: Definition
) -> Iterator[int]:
    """The rows of the comments that belong to a function, as libcst assigns them."""
    starts = [decorator_row(source, decorator) for decorator in node.decorator_list]
    above: Sequence[cst.EmptyLine] = concrete.leading_lines
    if module.body and concrete is module.body[0]:
        above = [*module.header, *above]
    regions = [(above, opening_row(source, node))]
    for decorator, row in zip(concrete.decorators, starts, strict=True):
        regions.append((decorator.leading_lines, row))
    if starts:
        regions.append((concrete.lines_after_decorators, node.lineno))
    for lines, row in regions:
        yield from _touching(lines, row)
    yield from _signature_row(source, concrete, node)


def _touching(lines: Sequence[cst.EmptyLine], end: int) -> Iterator[int]:
    """The rows of the comments right above row `end`, down from the last blank line."""
    begin = end - len(lines)
    for index, line in enumerate(lines):
        if line.comment is None:
            begin = end - len(lines) + index + 1
    yield from range(begin, end)


def _signature_row(source: Source, concrete: cst.FunctionDef, node: Definition) -> Iterator[int]:
    """The row that ends the signature, if a comment stands at its end."""
    suite = concrete.body
    if isinstance(suite, cst.SimpleStatementSuite):
        if suite.trailing_whitespace.comment is not None and node.end_lineno is not None:
            yield node.end_lineno
    elif isinstance(suite, cst.IndentedBlock) and suite.header.comment is not None:
        value = suite.header.comment.value
        for row in range(opening_row(source, node.body[0]) - 1, node.lineno - 1, -1):
            line = source.line(row).strip()
            if line.endswith(value.rstrip()) and line != value.rstrip():
                yield row
                return


def _adjacent(lines: list[Comment], own_lines: frozenset[int]) -> list[tuple[Comment, ...]]:
    """Group annotations that have their lines to themselves, with nothing but comments between."""
    groups: list[list[Comment]] = []
    for comment in sorted(lines, key=lambda comment: comment.row):
        last = groups[-1][-1] if groups else None
        if last is not None and own_lines.issuperset(range(last.row, comment.row + 1)):
            groups[-1].append(comment)
        else:
            groups.append([comment])
    return [tuple(group) for group in groups]


def _second(source: Source, node: Definition, group: tuple[Comment, ...]) -> Diagnostic:
    return Diagnostic(
        "VJP207",
        f"`{node.name}` already carries a rule: it has another annotation",
        source.filename,
        span_between(group[0].start, group[-1].end),
        "put all keys on adjacent lines, or remove one annotation",
    )


def _unattached(
    source: Source, statements: Mapping[int, ast.stmt], group: tuple[Comment, ...]
) -> Diagnostic:
    """Why an annotation belongs to no function."""
    last = group[-1]
    statement = _statement_after(statements, last.row if last.own_line else last.row - 1)
    own_function = (
        statement is not None
        and isinstance(statement, ast.Assign | ast.AnnAssign | ast.Return | ast.Expr)
        and any(isinstance(node, ast.Lambda) for node in ast.walk(statement))
    )
    between = range(last.row + 1, opening_row(source, statement)) if statement else range(0)
    blank = any(not source.line(row).strip() for row in between)
    if statement is not None and own_function and not blank:
        return at_node(
            source,
            "VJP206",
            "a lambda cannot carry a rule",
            statement,
            "write it as a `def` below the annotation",
        )
    help_ = "put it right above a `def`, or at the end of the line that ends its signature"
    what = "the annotation is attached to no function"
    if blank and isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
        what = f"a blank line parts the annotation from `{statement.name}`"
        help_ = "remove the blank line"
    elif isinstance(statement, ast.ClassDef) and not blank and last.own_line:
        what = f"the annotation stands above the class `{statement.name}`, not a function"
        help_ = "put it above the method that the rule is for"
    span = span_between(group[0].start, last.end)
    return Diagnostic("VJP005", what, source.filename, span, help_)


def _statements(tree: ast.Module) -> dict[int, ast.stmt]:
    """The first statement that begins in each row, in the order of the rows."""
    found: dict[int, ast.stmt] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt):
            found.setdefault(first_row(node), node)
    return dict(sorted(found.items()))


def _statement_after(statements: Mapping[int, ast.stmt], row: int) -> ast.stmt | None:
    """The first statement that begins below a row."""
    rows = tuple(statements)
    index = bisect_right(rows, row)
    return statements[rows[index]] if index < len(rows) else None
