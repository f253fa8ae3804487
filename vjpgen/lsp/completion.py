"""What can be written at a cursor in an annotation, or above a function."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from vjpgen.compiler.attach import ast_definitions, first_row
from vjpgen.compiler.keys import KEY_TEXTS
from vjpgen.compiler.scopes import Binding, Scope, enclosing
from vjpgen.compiler.signature import signature_of
from vjpgen.compiler.source import Position
from vjpgen.diagnostics.catalogue import CATALOGUE
from vjpgen.lsp.choices import choices
from vjpgen.lsp.definition import RULES, SLOTS, members
from vjpgen.lsp.hover import explanation, key_text
from vjpgen.lsp.reading import AnnotationText, Part
from vjpgen.lsp.view import View

_OPENING = "# custom-vjp: "
_UNFINISHED_CODE = re.compile(r"#\s*vjpgen:\s*ignore\[(?:[^\]#]*[\s,])?(\w*)$")
_UNFINISHED_NAME = re.compile(r"(?:[A-Za-z_]\w*\.)*[A-Za-z_]?\w*$|\d*$")
_CLAIMS = ("exact", "surrogate", "zero", "state")


@dataclass(frozen=True)
class Item:
    """One thing that can be written.

    Args:
        label: how it is listed, and what is written unless `text` says otherwise.
        kind: "key", "value", "function", "class", "module", "parameter", "code" or "annotation".
        start: where it begins: what stands from there to the cursor is replaced.
        text: what is written.
        detail: a few words beside it.
        documentation: more about it, in Markdown.
        rank: smaller ones are listed first.
    """

    label: str
    kind: str
    start: Position
    text: str = ""
    detail: str = ""
    documentation: str = ""
    rank: int = 0


def completions(view: View, position: Position) -> tuple[Item, ...]:
    """What can be written at a cursor."""
    row, column = position
    before = view.document.line(row)[:column]
    if "#" not in before:
        return ()
    code = _UNFINISHED_CODE.search(before)
    if code is not None:
        return tuple(_codes((row, code.start(1))))
    annotation = view.annotation(row)
    if annotation is None:
        return tuple(_annotation(view, position, before))
    offset = annotation.offset(position)
    part = None if offset is None else annotation.at(offset)
    if offset is None or part is None:
        return ()
    if part.value is None or offset < part.value_start:
        return tuple(_keys(annotation, part, offset))
    return tuple(_values(view, annotation, part, offset))


def _codes(start: Position) -> Iterator[Item]:
    for code, entry in CATALOGUE.items():
        yield Item(code, "code", start, detail=entry.title, documentation=explanation(entry))


def _annotation(view: View, position: Position, before: str) -> Iterator[Item]:
    """`# custom-vjp:` itself, in a comment above a function."""
    row, column = position
    text = before.lstrip()
    if not text.startswith("#") or not _OPENING.startswith(text) or view.tree is None:
        return
    if any(_begins_below(view, row, first_row(node)) for node in ast_definitions(view.tree)):
        yield Item(
            _OPENING.strip(),
            "annotation",
            (row, column - len(text)),
            text=_OPENING,
            detail="give the function below a gradient of its own",
        )


def _begins_below(view: View, row: int, first: int) -> bool:
    """Whether nothing but comments stands between a row and a function's first."""
    between = (view.document.line(each).lstrip() for each in range(row + 1, first))
    return row < first and all(line.startswith("#") for line in between)


def _keys(annotation: AnnotationText, part: Part, offset: int) -> Iterator[Item]:
    """The keys that are not given yet; one in front of another key is one more."""
    in_front = offset < part.name_start
    others = (each for each in annotation.parts if in_front or each is not part)
    given = {each.name for each in others if each.value is not None}
    start = part.name_start if part.name and not in_front else offset
    names = [key for text in KEY_TEXTS for key in text.keys]
    for rank, name in enumerate(names):
        if name not in given:
            text = name if part.value is not None and not in_front else f"{name}="
            text = f" {text}" if start == 0 and not annotation.text.startswith(" ") else text
            place = annotation.place(start)
            yield Item(name, "key", place, text, documentation=key_text(name), rank=rank)


def _values(view: View, annotation: AnnotationText, part: Part, offset: int) -> Iterator[Item]:
    match = _UNFINISHED_NAME.search(annotation.text[part.value_start : offset])
    typed = match[0] if match is not None else ""
    start = annotation.place(offset - len(typed))
    yield from _listed(choices(part.name), start)
    function = view.function(annotation)
    if function is None:
        return
    node, scope = function
    taken = set(re.findall(r"\w+", (part.value or "").removesuffix(typed)))
    if part.name in RULES:
        yield from _functions(view, part.name, node.name, scope, typed, offset, annotation)
    elif part.name in SLOTS:
        yield from _slots(part.name, node.args, scope, taken, start)
    elif part.name == "nondiff_argnums":
        for index, name in enumerate(signature_of(node.args).positional):
            yield Item(str(index), "value", start, detail=f"`{name}`", rank=index)
    elif part.name == "grad_vars":
        yield from _listed(("params", "batch_stats", "True"), start)


def _listed(values: tuple[str, ...], start: Position) -> Iterator[Item]:
    for rank, value in enumerate(values):
        yield Item(value, "value", start, rank=rank)


def _slots(
    key: str, args: ast.arguments, scope: Scope, taken: set[str], start: Position
) -> Iterator[Item]:
    """The parameters that a key can name; the module has no place among nondiff arguments."""
    names = list(signature_of(args).names)
    module_first = scope.is_class
    if key == "nondiff_argnames" and module_first:
        names = names[1:]
    if key in _CLAIMS:
        names += ["params"] * module_first
        yield Item("True", "value", start, detail="every slot", rank=-1)
    for rank, name in enumerate(names):
        if name not in taken:
            yield Item(name, "parameter", start, rank=rank)


def _functions(
    view: View,
    key: str,
    own: str,
    scope: Scope,
    typed: str,
    offset: int,
    annotation: AnnotationText,
) -> Iterator[Item]:
    """The functions in scope, or those of the class or module before the last dot."""
    owner, dot, name = typed.rpartition(".")
    start = annotation.place(offset - len(name))
    if dot:
        for label, node in members(view, scope, owner).items():
            yield from _function(label, node, key, start, 0)
        return
    depth, here = 0, scope
    seen = {own}
    while here is not None:
        for label, bindings in here.bindings.items():
            if label not in seen and label != "*" and _may_be_called(bindings[-1]):
                seen.add(label)
                yield from _function(label, bindings[-1].node, key, start, depth)
        here, depth = enclosing(here), depth + 1


def _function(label: str, node: ast.AST, key: str, start: Position, depth: int) -> Iterator[Item]:
    """Names that end as the key first, then functions, classes and what is imported."""
    if label.startswith("__"):
        return
    kinds = {
        ast.FunctionDef: "function",
        ast.ClassDef: "class",
        ast.Import: "module",
        ast.ImportFrom: "function",
    }
    kind = kinds.get(type(node), "value")
    detail = ""
    if isinstance(node, ast.FunctionDef):
        detail = f"({ast.unparse(node.args)})"
    elif isinstance(node, ast.ImportFrom):
        detail = f"from {'.' * node.level}{node.module or ''}"
    likely = key in label.lower()
    order = ("function", "value", "class", "module").index(kind)
    yield Item(label, kind, start, detail=detail, rank=(not likely) * 100 + order * 10 + depth)


def _may_be_called(binding: Binding) -> bool:
    """Whether a binding may stand for a function, or for a module or class that has some."""
    if isinstance(binding.node, ast.arg | ast.AsyncFunctionDef):
        return isinstance(binding.node, ast.arg)
    callable_ = ast.Lambda | ast.Call | ast.Name | ast.Attribute
    return binding.value is None or isinstance(binding.value, callable_)
