"""Python text in the style of black and `ruff format`."""

from __future__ import annotations

import ast
import io
import tokenize

WIDTH = 88


def string(value: str) -> str:
    """A string literal in double quotes."""
    return _double_quoted(repr(value))


def literal(value: object) -> str:
    """A literal of plain data."""
    return _requoted(repr(value))


def render(node: ast.expr) -> str:
    """An expression on one line, its strings in double quotes."""
    return _requoted(ast.unparse(node))


def bracketed(head: str, items: list[str], tail: str, indent: str, unit: str) -> list[str]:
    """`head items tail` on one line if it fits, else one item a line with a trailing comma."""
    line = indent + head + ", ".join(items) + tail
    if len(line) <= WIDTH or not items:
        return [line]
    return [indent + head, *(f"{indent}{unit}{item}," for item in items), indent + tail]


def argument(keyword: str, value: str, indent: str, unit: str) -> list[str]:
    """The lines of a call's argument `keyword=value,`; a long value is broken at its items."""
    line = f"{indent}{keyword}={value},"
    if len(line) <= WIDTH:
        return [line]
    node = ast.parse(value, mode="eval").body
    prefix = ""
    if isinstance(node, ast.Lambda):
        prefix = value[: value.index(":") + 2]
        node = node.body
    if isinstance(node, ast.Call) and (node.args or node.keywords):
        items = [render(item) for item in node.args]
        items += [
            f"{item.arg}={render(item.value)}" if item.arg else f"**{render(item.value)}"
            for item in node.keywords
        ]
        head = f"{keyword}={prefix}{render(node.func)}("
        return bracketed(head, items, "),", indent, unit)
    if isinstance(node, ast.Tuple) and node.elts:
        items = [render(item) for item in node.elts]
        return bracketed(f"{keyword}={prefix}(", items, "),", indent, unit)
    if isinstance(node, ast.Dict) and node.values:
        items = [
            f"{render(key)}: {render(item)}" if key else f"**{render(item)}"
            for key, item in zip(node.keys, node.values, strict=True)
        ]
        return bracketed(f"{keyword}={prefix}{{", items, "},", indent, unit)
    return [line]


def _requoted(text: str) -> str:
    """The same expression with each string literal in double quotes, where that is no longer."""
    if "'" not in text:
        return text
    pieces: list[str] = []
    last = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.STRING and token.start[0] == token.end[0] == 1:
            pieces += [text[last : token.start[1]], _double_quoted(token.string)]
            last = token.end[1]
    return "".join([*pieces, text[last:]])


def _double_quoted(text: str) -> str:
    prefix = text[: text.index(text[-1])]
    body = text[len(prefix) + 1 : -1]
    if text[-1] != "'" or text.endswith("'''") or '"' in body or "f" in prefix.lower():
        return text
    return f'{prefix}"{body}"' if "\\'" not in body else text
