"""Imports of annotated modules of the project, redirected to their generated siblings.

import a.b as c            import a.b_vjp as c
from .b import X           from .b_vjp import X
from pkg import b          from pkg import b_vjp as b
import a.b                 import a.b_vjp, and every `a.b` that means it becomes `a.b_vjp`

`a.b` means it where the scope that binds its `a` has such an import.
"""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass

from vjpgen.compiler.carriers import carried
from vjpgen.compiler.edits import Edit
from vjpgen.compiler.import_from import import_from
from vjpgen.compiler.scopes import (
    Scope,
    ScopeNode,
    look_up,
    own_names,
    quoted_names,
    statements,
)
from vjpgen.compiler.siblings import Siblings
from vjpgen.compiler.source import Source
from vjpgen.compiler.values import dotted

Plain = frozenset[tuple[ScopeNode, str]]
_VALUE_NAME = re.compile(r"\b[^\W\d]\w*\b(?!\s*=)")
_NEITHER = ("Literal", "Annotated")


@dataclass(frozen=True)
class Redirection:
    """What redirecting the imports of a module changes.

    Args:
        edits: the edits of its text.
        plain: the modules that `import a.b` brought in, which are used by their dotted name,
            each with the node of the scope that has its `a`.
        suffix: what such a name gets.
    """

    edits: tuple[Edit, ...]
    plain: Plain
    suffix: str

    def expression(self, node: ast.expr, scope: Scope) -> ast.expr:
        """An expression that is not in the file, with its dotted names redirected likewise."""
        return _Renamer(self, scope).visit(copy.deepcopy(node)) if self.plain else node


class _Renamer(ast.NodeTransformer):
    def __init__(self, redirection: Redirection, scope: Scope) -> None:
        self._redirection = redirection
        self._scope = scope
        self._hidden: frozenset[str] = frozenset()

    def generic_visit(self, node: ast.AST) -> ast.AST:
        outer = self._hidden
        self._hidden |= own_names(node)
        super().generic_visit(node)
        self._hidden = outer
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        hidden = (dotted(node) or "").split(".")[0] in self._hidden
        if not hidden and _means_module(node, self._redirection.plain, self._scope):
            node.attr += self._redirection.suffix
            return node
        self.generic_visit(node)
        return node


def redirect(
    source: Source, tree: ast.Module, siblings: Siblings, suffix: str, prefix: str = "_vjp"
) -> Redirection:
    """Make a module import its annotated siblings' generated modules.

    Args:
        source: the source.
        tree: its syntax tree.
        siblings: the other modules of the project.
        suffix: what a generated module's name adds to its source's.
        prefix: what names that are added begin with.
    """
    edits: list[Edit] = []
    dotted_imports: set[ast.Import] = set()
    imports = [n for n in statements(tree.body) if isinstance(n, ast.Import | ast.ImportFrom)]
    has_star = any(node.names[0].name == "*" for node in imports)
    used = _used(source, tree) if has_star else frozenset()
    for node in imports:
        if isinstance(node, ast.Import):
            edits += _import(source, node, siblings, suffix)
            if any(_is_plain(alias, siblings) for alias in node.names):
                dotted_imports.add(node)
        else:
            edits += import_from(source, node, siblings, suffix, used)
    plain: Plain = frozenset()
    if dotted_imports:
        nodes = list(_scoped(tree, Scope(tree, None, ""), frozenset()))
        plain = frozenset(
            (owner, alias.name)
            for node, scope in nodes
            if isinstance(node, ast.Import)
            for alias in node.names
            if _is_plain(alias, siblings) and (owner := _owner(alias.name, scope)) is not None
        )
        edits += _uses(source, nodes, plain, suffix)
    edits += carried(source, tree, siblings, suffix, prefix)
    return Redirection(tuple(edits), plain, suffix)


def _used(source: Source, tree: ast.Module) -> frozenset[str]:
    """The names that the generated module uses: what the source does, and its annotations."""
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    lines = (line.strip() for line in source.lines if "custom-vjp:" in line)
    annotated = {name for line in lines for name in _VALUE_NAME.findall(line)}
    return frozenset(names | annotated | quoted_names(tree))


def _is_plain(alias: ast.alias, siblings: Siblings) -> bool:
    """Whether this is the `a.b` of an `import a.b` to be redirected."""
    return alias.asname is None and "." in alias.name and siblings.annotated(alias.name)


def _import(source: Source, node: ast.Import, siblings: Siblings, suffix: str) -> Iterator[Edit]:
    for alias in node.names:
        if not siblings.annotated(alias.name):
            continue
        start = source.offset(source.start(alias))
        name = alias.name + suffix
        if alias.asname is None and "." not in alias.name:
            name += f" as {alias.name}"
        yield Edit(start, start + len(alias.name), name)


def _uses(
    source: Source, nodes: list[tuple[ast.AST, Scope]], plain: Plain, suffix: str
) -> Iterator[Edit]:
    """`a.b` wherever it means the module that `import a.b` has brought in."""
    for node, scope in nodes:
        if isinstance(node, ast.Constant):
            yield from _quoted(source, node, plain, scope, suffix)
        elif isinstance(node, ast.Attribute) and _means_module(node, plain, scope):
            end = source.offset(source.end(node))
            yield Edit(end, end, suffix)


def _quoted(
    source: Source, node: ast.Constant, plain: Plain, scope: Scope, suffix: str
) -> Iterator[Edit]:
    """The same in an annotation that is a simple string."""
    text = node.value
    if node.lineno != node.end_lineno:
        return
    start, end = source.offset(source.start(node)), source.offset(source.end(node))
    if not isinstance(text, str) or not text.isascii() or source.text[start + 1 : end - 1] != text:
        return
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for part in ast.walk(tree):
        if isinstance(part, ast.Attribute) and _means_module(part, plain, scope):
            place = start + 1 + (part.end_col_offset or 0)
            yield Edit(place, place, suffix)


def _means_module(node: ast.Attribute, plain: Plain, scope: Scope) -> bool:
    """Whether `a.b` is a redirected module: the scope that binds its `a` imports it so."""
    name = dotted(node)
    if name is None or not any(name == module for _, module in plain):
        return False
    return (_owner(name, scope), name) in plain


def _owner(name: str, scope: Scope) -> ScopeNode | None:
    """The scope that binds the first part of a dotted name."""
    found = look_up(name.split(".")[0], scope)
    return found.scope.node if found is not None and found.scope is not None else None


def _scoped(node: ast.AST, scope: Scope, hidden: frozenset[str]) -> Iterator[tuple[ast.AST, Scope]]:
    """Every `a.b`, quoted annotation and import, with the scope it stands in.

    An `a` of a lambda or comprehension is passed over.
    """
    if not isinstance(node, ast.Attribute | ast.Import):
        pass
    elif isinstance(node, ast.Import) or (dotted(node) or "").split(".")[0] not in hidden:
        yield node, scope
    hidden |= own_names(node)
    inner = scope
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        inner = Scope(node, scope, node.name)
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns") and isinstance(value, ast.expr):
            yield from ((text, scope) for text in _strings(value))
        for child in value if isinstance(value, list) else (value,):
            if isinstance(child, ast.AST):
                yield from _scoped(child, inner if field == "body" else scope, hidden)


def _strings(annotation: ast.expr) -> Iterator[ast.Constant]:
    """The strings in an annotation that stand for types."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        yield annotation
    generic = annotation.value if isinstance(annotation, ast.Subscript) else None
    if generic is not None and (dotted(generic) or "").endswith(_NEITHER):
        return
    for child in ast.iter_child_nodes(annotation):
        if isinstance(child, ast.expr):
            yield from _strings(child)
