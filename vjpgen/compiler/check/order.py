"""VJP103: a rule of the enclosing function that is bound only after the function's first use."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from vjpgen.compiler.facts import Facts
from vjpgen.compiler.scopes import Found
from vjpgen.diagnostics import Diagnostic


def check_order(facts: Facts) -> Iterator[Diagnostic]:
    """Rules looked up too early: at the first call, the enclosing function has no such name."""
    if facts.scope.is_class or facts.scope.is_module:
        return
    use = _first_call(facts)
    if use is None:
        return
    for reference in (facts.fwd, facts.bwd):
        found = reference.found if reference is not None else None
        if reference is None or found is None or found.scope is not facts.scope:
            continue
        first = min((_position(binding.node) for binding in found.bindings), default=(0, 0))
        if first > _position(use) and not _in_one_loop(facts, use, found):
            name, key = facts.node.name, reference.key
            yield Diagnostic(
                "VJP103",
                f"`{key.text}` is bound in line {first[0]}, after `{name}` is used in line"
                f" {use.lineno}",
                facts.source.filename,
                key.span,
                f"define `{key.text}` above line {use.lineno}",
            )


def _in_one_loop(facts: Facts, use: ast.Call, found: Found) -> bool:
    """Whether a loop holds both the use and a binding: the binding may come a round earlier."""
    rows = [
        range(node.lineno, (node.end_lineno or node.lineno) + 1)
        for node in facts.scope.nodes
        if isinstance(node, ast.For | ast.AsyncFor | ast.While)
    ]
    return any(use.lineno in r and b.row in r for r in rows for b in found.bindings)


def _first_call(facts: Facts) -> ast.Call | None:
    """The first call of the function, itself or transformed, in the enclosing function's body."""
    name, end = facts.node.name, facts.node.end_lineno or 0
    calls = [
        node
        for node in facts.scope.nodes
        if isinstance(node, ast.Call) and node.lineno > end and _names(node.func, name)
    ]
    return min(calls, key=_position, default=None)


def _names(node: ast.expr, name: str) -> bool:
    """Whether `f` or `transform(f, ...)` is what is called."""
    if isinstance(node, ast.Call):
        return any(_names(argument, name) for argument in node.args) or _names(node.func, name)
    return isinstance(node, ast.Name) and node.id == name


def _position(node: ast.AST) -> tuple[int, int]:
    return getattr(node, "lineno", 0), getattr(node, "col_offset", 0)
