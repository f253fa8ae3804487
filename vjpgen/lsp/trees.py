"""A syntax tree of a buffer that may not parse: someone is typing.

What the parser stumbles over is mended line by line, as far as that goes, so that the rest of the
file still has its names. Rows stay what they are.
"""

from __future__ import annotations

import ast
import re
import warnings

from vjpgen.compiler.attach import Definition, ast_definitions, first_row
from vjpgen.compiler.facts import scopes_of
from vjpgen.compiler.scopes import Scope
from vjpgen.lsp.document import Document
from vjpgen.lsp.reading import AnnotationText

_MOST_MENDS = 25
_DEF = re.compile(r"(?P<head>\s*(?:async\s+)?def\s+\w+)(?P<arguments>\s*\(.*)?$")
_OPENER = re.compile(r"on line (\d+)")


def parse(data: bytes | str) -> ast.Module | None:
    """The tree of a source, None where there is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(data)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def mended_tree(document: Document) -> ast.Module | None:
    """The tree of a buffer, mended where it does not parse; None where that is no use."""
    lines = [line.rstrip("\r\n") for line in document.lines]
    touched: set[int] = set()
    for _ in range(_MOST_MENDS):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return ast.parse("\n".join(lines) + "\n")
        except SyntaxError as error:
            if not _mend(lines, error, touched):
                return None
        except (ValueError, RecursionError, MemoryError):
            return None
    return None


def _mend(lines: list[str], error: SyntaxError, touched: set[int]) -> bool:
    """Change one line for the better; False where nothing is left to change."""
    row = min(max(error.lineno or 1, 1), max(len(lines), 1))
    opener = _OPENER.search(error.msg) if "indented block" in error.msg else None
    if opener is not None:
        row = int(opener[1])
        lines[row - 1] = re.sub(r"\s*(#.*)?$", " pass", lines[row - 1])
        return True
    if not lines:
        return False
    text = lines[row - 1]
    definition = _DEF.match(text)
    if row in touched:
        if not text:
            return False
        lines[row - 1] = ""
    elif definition is not None:
        lines[row - 1] = _definition(definition["head"], definition["arguments"] or "")
    else:
        lines[row - 1] = text[: len(text) - len(text.lstrip())] + "pass"
    touched.add(row)
    return True


def _definition(head: str, arguments: str) -> str:
    """A `def` line with as much of its parameters as can be read."""
    inside = re.sub(r"#.*$", "", arguments).strip().removeprefix("(").rstrip(":) ")
    while inside:
        if parse(f"{head.strip()}({inside}): pass") is not None:
            return f"{head}({inside}):"
        inside = inside.rpartition(",")[0]
    return f"{head}():"


def function_at(tree: ast.Module, annotation: AnnotationText) -> Definition | None:
    """The function that an annotation belongs to, or would if no blank line parted them."""
    above = annotation.comments[0].own_line
    best: Definition | None = None
    for node in ast_definitions(tree):
        end = node.lineno if above else max(node.body[0].lineno, node.lineno + 1)
        if first_row(node) <= annotation.first_row < end:
            return node
        nearer = best is None or first_row(node) < first_row(best)
        if above and first_row(node) > annotation.last_row and nearer:
            best = node
    return best


def scope_of(tree: ast.Module, node: Definition) -> Scope:
    """The scope that a function is defined in."""
    return scopes_of(tree, {node}).get(node) or Scope(tree, None, "")
