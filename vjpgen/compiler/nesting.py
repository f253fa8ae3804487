"""How deep a file is nested, measured before libcst is asked to read it.

libcst reads by recursion in native code, where too much of it ends the process. Python's own parser
refuses the deepest sources, but what it keeps flat libcst may nest:

    a and b and c        one level to Python, two to libcst
    import a.b.c         no level at all to Python

And with each bracket around a pattern the time that libcst takes at least doubles.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from vjpgen.compiler.source import Source

DEEPEST = 500
"""More than libcst prints within Python's usual recursion limit, and far less than kills it."""

DEEPEST_PATTERN = 8

_SHORT = 2 * DEEPEST
_BRACKET = re.compile(r"[(\[{]|[)\]}]|\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|#.*")

BLOCKS = ("body", "handlers", "cases", "orelse", "finalbody")
"""The fields of a syntax tree's nodes that hold statements, or what holds some."""


def is_too_deep(source: Source, tree: ast.Module) -> bool:
    """Whether a file is nested too deeply for libcst; told without recursion of one's own."""
    pending: list[tuple[ast.AST, int]] = [(tree, 0)]
    while pending:
        node, depth = pending.pop()
        blocks = [child for name in BLOCKS for child in getattr(node, name, ())]
        if depth > DEEPEST or (_is_long(source, node, blocks) and _is_deep(node, blocks, depth)):
            return True
        if isinstance(node, ast.Match) and any(
            _is_tangled(text) for text in _patterns(source, node)
        ):
            return True
        pending += [(child, depth + 1) for child in blocks]
    return False


def _is_long(source: Source, node: ast.AST, blocks: list[ast.AST]) -> bool:
    """Whether the rows of a statement, without those of its blocks, could hold so many levels."""
    if isinstance(node, ast.Module | ast.match_case):
        return True
    assert isinstance(node, ast.stmt | ast.ExceptHandler)
    first = min([node.lineno, *(item.lineno for item in getattr(node, "decorator_list", ()))])
    last = node.end_lineno or node.lineno
    if blocks:
        last = max(node.lineno, getattr(blocks[0], "lineno", 1))
    return source.starts[last] - source.starts[first - 1] > _SHORT


def _is_deep(statement: ast.AST, blocks: list[ast.AST], depth: int) -> bool:
    """Whether what a statement has besides blocks makes it too deep."""
    inside = set(map(id, blocks))
    pending = [(statement, depth)]
    while pending:
        node, above = pending.pop()
        here = above + 1 + _flattened(node)
        if here > DEEPEST:
            return True
        pending += [(n, here) for n in ast.iter_child_nodes(node) if id(n) not in inside]
    return False


def _flattened(node: ast.AST) -> int:
    """How many levels libcst makes of what is one level to Python."""
    match node:
        case ast.BoolOp(values=values):
            return len(values) - 2
        case ast.alias(name=name) | ast.ImportFrom(module=str(name)):
            return name.count(".")
        case _:
            return len(getattr(node, "generators", ()))


def _patterns(source: Source, match: ast.Match) -> Iterator[str]:
    """The text of each pattern of a statement, with all brackets around it."""
    before = source.end(match.subject)
    for case in match.cases:
        after = source.start(case.guard or case.body[0])
        yield source.text[source.offset(before) : source.offset(after)]
        before = source.end(case.body[-1])


def _is_tangled(pattern: str) -> bool:
    """Whether a pattern has too many brackets in one another."""
    depth = deepest = 0
    for token in _BRACKET.findall(pattern):
        depth += (token in "([{") - (token in ")]}")
        deepest = max(deepest, depth)
    return deepest > DEEPEST_PATTERN
