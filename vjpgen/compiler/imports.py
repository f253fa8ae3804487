"""Imports of annotated modules of the project, redirected to their generated siblings.

import a.b as c            import a.b_vjp as c
from .b import X           from .b_vjp import X
from pkg import b          from pkg import b_vjp as b
import a.b                 import a.b_vjp, and every `a.b` that means it becomes `a.b_vjp`
"""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Iterator, Set
from dataclasses import dataclass

from vjpgen.compiler.edits import Edit
from vjpgen.compiler.result import Siblings
from vjpgen.compiler.scopes import Scope, look_up
from vjpgen.compiler.source import Source
from vjpgen.compiler.text import WIDTH
from vjpgen.compiler.values import dotted


@dataclass(frozen=True)
class Redirection:
    """What redirecting the imports of a module changes.

    Args:
        edits: the edits of its text.
        plain: the modules that `import a.b` brought in, which are used by their dotted name.
        suffix: what such a name gets.
    """

    edits: tuple[Edit, ...]
    plain: frozenset[str]
    suffix: str

    def expression(self, node: ast.expr, scope: Scope) -> ast.expr:
        """An expression that is not in the file, with its dotted names redirected likewise."""
        return _Renamer(self, scope).visit(copy.deepcopy(node)) if self.plain else node


class _Renamer(ast.NodeTransformer):
    def __init__(self, redirection: Redirection, scope: Scope) -> None:
        self._redirection = redirection
        self._scope = scope

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        if _means_module(node, self._redirection.plain, self._scope):
            node.attr += self._redirection.suffix
            return node
        self.generic_visit(node)
        return node


def redirect(source: Source, tree: ast.Module, siblings: Siblings, suffix: str) -> Redirection:
    """Make a module import its annotated siblings' generated modules."""
    edits: list[Edit] = []
    plain: set[str] = set()
    if not siblings.modules:
        return Redirection((), frozenset(), suffix)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            edits += _import(source, node, siblings, suffix, plain)
        elif isinstance(node, ast.ImportFrom):
            edits += _import_from(source, node, siblings, suffix)
    if plain:
        edits += _uses(source, tree, plain, suffix)
    return Redirection(tuple(edits), frozenset(plain), suffix)


def _import(
    source: Source, node: ast.Import, siblings: Siblings, suffix: str, plain: set[str]
) -> Iterator[Edit]:
    for alias in node.names:
        if not siblings.annotated(alias.name):
            continue
        start = source.offset(source.start(alias))
        name = alias.name + suffix
        if alias.asname is None and "." in alias.name:
            plain.add(alias.name)
        elif alias.asname is None:
            name += f" as {alias.name}"
        yield Edit(start, start + len(alias.name), name)


def _import_from(
    source: Source, node: ast.ImportFrom, siblings: Siblings, suffix: str
) -> list[Edit]:
    module = siblings.absolute(node.module, node.level)
    edits: list[Edit] = []
    if module is not None and node.module is not None and siblings.annotated(module):
        end = _module_end(source, node)
        edits.append(Edit(end, end, suffix))
    elif module is not None:
        for alias in node.names:
            if siblings.annotated(f"{module}.{alias.name}"):
                start = source.offset(source.start(alias))
                name = alias.name + suffix + ("" if alias.asname else f" as {alias.name}")
                edits.append(Edit(start, start + len(alias.name), name))
    return [_broken(source, node, edits)] if _too_long(source, node, edits) else edits


def _module_end(source: Source, node: ast.ImportFrom) -> int:
    """The offset at which the module's name ends in `from <module> import`."""
    start = source.offset(source.start(node))
    end = source.offset(source.start(node.names[0]))
    head = source.text[start:end]
    last = (node.module or "").split(".")[-1]
    return start + head.rindex(last, 0, head.rindex("import")) + len(last)


def _too_long(source: Source, node: ast.ImportFrom, edits: list[Edit]) -> bool:
    """Whether an import that fitted on its line does no more."""
    if not edits or node.lineno != node.end_lineno or node.names[0].name == "*":
        return False
    line = source.line(node.lineno)
    grown = sum(len(edit.text) - (edit.end - edit.start) for edit in edits)
    alone = line.strip() == line[source.start(node)[1] : source.end(node)[1]]
    return alone and "(" not in line and len(line) <= WIDTH < len(line) + grown


def _broken(source: Source, node: ast.ImportFrom, edits: list[Edit]) -> Edit:
    """The import with one name a line, as black and ruff break it."""
    start, end = source.offset(source.start(node)), source.offset(source.end(node))
    text = source.text[start:end]
    for edit in sorted(edits, reverse=True):
        text = text[: edit.start - start] + edit.text + text[edit.end - start :]
    head, names = re.split(r"\s*\bimport\s+", text, maxsplit=1)
    indent = source.line(node.lineno)[: source.start(node)[1]]
    lines = [f"{head} import ("]
    lines += [f"{indent}    {name.strip()}," for name in names.split(",")]
    return Edit(start, end, source.newline.join([*lines, f"{indent})"]))


def _uses(source: Source, tree: ast.Module, plain: Set[str], suffix: str) -> Iterator[Edit]:
    """`a.b` wherever it means the module that `import a.b` has brought in."""
    for node, scope in _attributes(tree, Scope(tree, None, ""), frozenset()):
        if _means_module(node, plain, scope):
            end = source.offset(source.end(node))
            yield Edit(end, end, suffix)


def _means_module(node: ast.Attribute, plain: Set[str], scope: Scope) -> bool:
    """Whether `a.b` is a redirected module, its `a` bound by nothing but `import a...`."""
    name = dotted(node)
    if name is None or name not in plain:
        return False
    first = name.split(".")[0]
    found = look_up(first, scope)
    if found is None or not found.bindings:
        return False
    return all(binding.is_module and binding.module == first for binding in found.bindings)


def _attributes(
    node: ast.AST, scope: Scope, hidden: frozenset[str]
) -> Iterator[tuple[ast.Attribute, Scope]]:
    """Every `a.b` with the scope it stands in, but for an `a` of a lambda or comprehension."""
    if isinstance(node, ast.Attribute) and (dotted(node) or "").split(".")[0] not in hidden:
        yield node, scope
    hidden |= _own_names(node)
    inner = scope
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        inner = Scope(node, scope, node.name)
    for field, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else (value,):
            if isinstance(child, ast.AST):
                yield from _attributes(child, inner if field == "body" else scope, hidden)


def _own_names(node: ast.AST) -> frozenset[str]:
    """The names that a lambda or a comprehension binds for itself."""
    if isinstance(node, ast.Lambda):
        return frozenset(item.arg for item in ast.walk(node.args) if isinstance(item, ast.arg))
    names: set[str] = set()
    for generator in getattr(node, "generators", ()):
        names.update(n.id for n in ast.walk(generator.target) if isinstance(n, ast.Name))
    return frozenset(names)
