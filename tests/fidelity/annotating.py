"""Annotating code that was never meant for it: a function in its middle, and one at its end."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

RULE = "vjpgen_test_rule"
LAST = "vjpgen_test_last"
_APPENDED = f"""\


def {RULE}(*residuals_and_tangents):
    return residuals_and_tangents


# custom-vjp: bwd={RULE}
def {LAST}(x):
    return x
"""
# A plain `def` of these is no plain method: a class method in truth, or what makes an instance.
_SPECIAL = {
    *("__class_getitem__", "__init_subclass__", "__new__"),
    *("__init__", "__post_init__", "__setup__"),
}
_Definition = ast.FunctionDef | ast.AsyncFunctionDef


def annotate(data: bytes, tree: ast.Module | None) -> tuple[bytes, tuple[str, ...]]:
    """Annotate a function in the middle of a file, where it has one that fits, and append one.

    Args:
        data: the file.
        tree: its syntax tree; None where it has none.

    Returns:
        The new file, and the names of the annotated functions.
    """
    newline = b"\r\n" if data.split(b"\n", 1)[0].endswith(b"\r") else b"\n"
    functions = [] if tree is None else [f for f in _definitions(tree) if _fits(f)]
    names = []
    if functions:
        middle = functions[len(functions) // 2]
        data = _with_comment(data, middle.lineno, newline)
        names.append(middle.name)
    ended = not data or data.endswith((b"\n", b"\r"))
    end = b"" if ended else newline
    return data + end + _APPENDED.encode().replace(b"\n", newline), (*names, LAST)


def _with_comment(data: bytes, row: int, newline: bytes) -> bytes:
    """The file with an annotation above a row, indented as that is."""
    lines = re.findall(rb"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", data)
    line = lines[row - 1]
    indent = line[: len(line) - len(line.lstrip(b" \t\f"))]
    comment = indent + b"# custom-vjp: target=function, bwd=" + RULE.encode() + newline
    return b"".join([*lines[: row - 1], comment, *lines[row - 1 :]])


def _definitions(node: ast.AST) -> Iterator[_Definition]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _Definition):
            yield child
            if any(isinstance(part, ast.Nonlocal) for part in ast.walk(child)):
                continue  # what stands in it may write to its variables, by others of its functions
        if not isinstance(child, ast.expr):
            yield from _definitions(child)


def _fits(function: _Definition) -> bool:
    """Whether nothing speaks against a rule, as far as a look at the function can tell."""
    plain = isinstance(function, ast.FunctionDef) and not function.decorator_list
    yields = any(isinstance(node, ast.Yield | ast.YieldFrom) for node in ast.walk(function))
    return plain and not yields and function.name not in _SPECIAL
