"""Where the names of an annotation are defined, in this file or in another of the project."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from vjpgen.compiler.references import free_names
from vjpgen.compiler.scopes import Binding, Scope, look_up
from vjpgen.compiler.source import Position, span_between
from vjpgen.diagnostics import Span
from vjpgen.lsp.document import Document
from vjpgen.lsp.reading import AnnotationText, Part
from vjpgen.lsp.trees import parse
from vjpgen.lsp.view import View

RULES = ("fwd", "bwd", "example")
SLOTS = ("nondiff_argnames", "exact", "surrogate", "zero", "state")
_WORD = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
_MOST_HOPS = 10


@dataclass(frozen=True)
class Location:
    """A place in a file, and what is defined there."""

    document: Document
    span: Span
    node: ast.AST


def definitions(view: View, position: Position) -> tuple[Location, ...]:
    """Where the name at a cursor is defined; several places where it is bound several times."""
    annotation = view.annotation(position[0])
    offset = None if annotation is None else annotation.offset(position)
    if annotation is None or offset is None:
        return ()
    part, function = annotation.at(offset), view.function(annotation)
    name = _name_at(annotation, part, offset)
    if part is None or name is None or function is None:
        return ()
    node, scope = function
    if part.name in SLOTS:
        return tuple(_parameters(view.document, node.args, name.split(".")[0]))
    is_own = part.value is None or name.split(".")[0] in _free(part.value)
    return tuple(resolve(view, scope, name)) if part.name in RULES and is_own else ()


def resolve(view: View, scope: Scope, name: str) -> Iterator[Location]:
    """Where a dotted name, looked up from a scope, is defined."""
    yield from _in_scope(view, view.document, scope, name.split("."), _MOST_HOPS)


def function_of(location: Location) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    """The `def` that stands at a location."""
    node = location.node
    return node if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else None


def members(view: View, scope: Scope, name: str) -> dict[str, ast.AST]:
    """What can follow `name.`: the names of a class's body or of a module of the project."""
    found: dict[str, ast.AST] = {}
    for location in resolve(view, scope, name):
        if isinstance(location.node, ast.ClassDef | ast.Module):
            inner = Scope(location.node, None, "")
            found |= {key: bound[-1].node for key, bound in inner.bindings.items() if key != "*"}
    return found


def _name_at(annotation: AnnotationText, part: Part | None, offset: int) -> str | None:
    """The dotted name at a cursor, up to the part of it that the cursor is in."""
    if part is None or part.value is None or offset < part.value_start:
        return None
    for match in _WORD.finditer(annotation.text, part.value_start, part.end):
        if match.start() <= offset <= match.end():
            end = match[0].find(".", offset - match.start())
            return match[0] if end < 0 else match[0][:end]
    return None


def _free(value: str) -> list[str]:
    """The names that a value takes from around it; those of a lambda are its own."""
    try:
        return free_names(ast.parse(value.strip(), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return [match[0].split(".")[0] for match in _WORD.finditer(value)]


def _parameters(document: Document, args: ast.arguments, name: str) -> Iterator[Location]:
    every = [*args.posonlyargs, *args.args, args.vararg, *args.kwonlyargs, args.kwarg]
    for argument in every:
        if argument is not None and argument.arg == name:
            yield Location(document, _span(document, argument, name), argument)


def _in_scope(
    view: View, document: Document, scope: Scope, parts: Sequence[str], hops: int
) -> Iterator[Location]:
    found = look_up(parts[0], scope)
    if found is None:
        return
    if found.scope is None:
        yield from _starred(view, document, scope, parts, hops)
    for binding in found.bindings:
        yield from _follow(view, document, binding, found.scope, parts, hops)


def _follow(
    view: View,
    document: Document,
    binding: Binding,
    scope: Scope | None,
    parts: Sequence[str],
    hops: int,
) -> Iterator[Location]:
    """From one binding of the first name to what the whole dotted name means."""
    name, rest = parts[0], parts[1:]
    if binding.module is not None:
        there = list(_in_module(view, document, _absolute(binding.module, rest), hops - 1))
        yield from there or [Location(document, _span(document, binding.node, name), binding.node)]
    elif rest and isinstance(binding.node, ast.ClassDef):
        inner = Scope(binding.node, scope, binding.node.name)
        for each in inner.bindings.get(rest[0], []):
            yield from _follow(view, document, each, inner, rest, hops)
    else:
        yield Location(document, _span(document, binding.node, name), binding.node)


def _starred(
    view: View, document: Document, scope: Scope, parts: Sequence[str], hops: int
) -> Iterator[Location]:
    """A name that a `from module import *` may have brought."""
    while scope.parent is not None:
        scope = scope.parent
    for binding in scope.bindings.get("*", []):
        module = (binding.module or "").removesuffix("*").removesuffix(".") or "."
        module += "" if module.endswith(".") else "."
        yield from _in_module(view, document, _absolute(module + parts[0], parts[1:]), hops - 1)


def _absolute(module: str, rest: Sequence[str]) -> tuple[int, list[str]]:
    """How many dots a name begins with, and its parts."""
    level = len(module) - len(module.lstrip("."))
    return level, [*filter(None, module[level:].split(".")), *rest]


def _in_module(
    view: View, document: Document, name: tuple[int, list[str]], hops: int
) -> Iterator[Location]:
    """What a name that an import brings means, in the module's own file."""
    if hops < 0:
        return
    level, parts = name
    folder = os.path.dirname(document.path)
    for _ in range(level - 1):
        folder = os.path.dirname(folder)
    for root in (folder,) if level else view.roots:
        path, rest = _module_file(root, parts)
        target = None if path is None else view.read(path)
        tree = None if target is None else parse(target.data)
        if target is None or tree is None:
            continue
        if not rest:
            yield Location(target, Span(1, 1, 1, 1), tree)
        else:
            scope = Scope(tree, None, "")
            inner = replace(view, document=target, last_tree=None)
            if rest[0] in scope.bindings or scope.has_star_import:
                yield from _in_scope(inner, target, scope, rest, hops)
        return


def _module_file(root: str, parts: Sequence[str]) -> tuple[str | None, list[str]]:
    """The file of the longest module that a dotted name begins with, and what is left of it."""
    folder = root
    best: tuple[str | None, list[str]] = (None, list(parts))
    for index, part in enumerate(parts):
        folder = os.path.join(folder, part)
        rest = list(parts[index + 1 :])
        init = os.path.join(folder, "__init__.py")
        if os.path.isfile(init):
            best = init, rest
        elif os.path.isfile(folder + ".py"):
            return folder + ".py", rest
        elif not os.path.isdir(folder):
            break
    return best


def _span(document: Document, node: ast.AST, name: str) -> Span:
    """The place of the name in what binds it."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        for alias in node.names:
            if (alias.asname or alias.name).split(".")[0] == name:
                node = alias
                break
    row = getattr(node, "lineno", 1)
    line = document.line(row)
    start = len(line.encode()[: getattr(node, "col_offset", 0)].decode(errors="ignore"))
    match = re.compile(rf"\b{re.escape(name)}\b").search(line, start)
    if match is None:
        return span_between((row, start), (row, start))
    return span_between((row, match.start()), (row, match.end()))
