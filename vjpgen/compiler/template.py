"""Templates: real Python files, cut into lines and filled with an annotated function's names."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from vjpgen.compiler.lower import Lowered
from vjpgen.compiler.text import WIDTH, argument, bracketed, string

_PACKAGE = Path(__file__).resolve().parents[1]
_UNPACKING = "(parameters,) = "
_CAPTURED = "captured={}"
_CAPTURED_TOO = ", captured values too"
_CALL = re.compile(r"(?P<head>[^()]*\()(?P<items>[^()]+)(?P<tail>\)[^()]*)")
_KEYWORD = re.compile(r"(?P<key>\w+)=.*,")


@dataclass(frozen=True)
class Template:
    """The lines of the lifted function, and of the assignment that puts it in place."""

    function: tuple[str, ...]
    assignment: tuple[str, ...]


@dataclass(frozen=True)
class Style:
    """What inserted text takes over from the source: its prefix, indent unit and the `def`'s."""

    prefix: str
    unit: str
    indent: str


def template_path(name: str) -> Path:
    """Where a template lies: in the installed package, or beside it in a checkout or sdist."""
    installed = _PACKAGE / "templates" / name
    return installed if installed.exists() else _PACKAGE.parent / "templates" / name


@cache
def load_template(name: str) -> Template:
    """Read a template: its last two statements."""
    text = template_path(name).read_text(encoding="utf-8")
    lines = text.splitlines()
    function, assignment = ast.parse(text).body[-2:]
    return Template(
        tuple(lines[function.lineno - 1 : function.end_lineno]),
        tuple(lines[assignment.lineno - 1 : assignment.end_lineno]),
    )


@cache
def import_line(name: str) -> str:
    """The import that a template's code needs, as the template itself writes it."""
    lines = template_path(name).read_text(encoding="utf-8").splitlines()
    return next(line for line in lines if line.startswith("from vjpgen.runtime import"))


def fill(lowered: Lowered, style: Style) -> tuple[list[str], list[str]]:
    """The lines of the lifted function and of the assignment, for one annotated function."""
    template = load_template(lowered.template)
    function = [style.indent + "@staticmethod"] if lowered.in_class else []
    for line in _nondiff(template.function, lowered.has_nondiff):
        function += _function_line(line, lowered, style)
    assignment: list[str] = []
    for line in template.assignment:
        assignment += _assignment_line(line, lowered, style)
    return function, assignment


def with_prefix(text: str, prefix: str) -> str:
    """Generated text with another prefix than the templates' own."""
    return re.sub(r"\b_vjp", prefix, text)


def _function_line(line: str, lowered: Lowered, style: Style) -> list[str]:
    if not line.strip():
        return [""]
    indent, text = _indented(line, style)
    text = _named(text, lowered, style)
    if not lowered.has_fwd:
        text = re.sub(r"(_run)\.fwd\b", r"\1.vjp", text)
    if text.startswith(_UNPACKING):
        return _unpacking(text.removeprefix(_UNPACKING), lowered, indent, style)
    match = _CALL.fullmatch(text)
    if text.startswith("#"):
        return _comment(text, lowered, indent)
    if match is None:
        return [indent + text]
    items: list[str] = []
    for item in match["items"].split(", "):
        if item == _CAPTURED:
            items += _captured(lowered)
        else:
            items += _slots(text, lowered) if item == "parameters" else [item]
    lines = bracketed(match["head"], items, match["tail"], indent, style.unit)
    return [part for line in lines for part in _broken(line, style)]


def _comment(text: str, lowered: Lowered, indent: str) -> list[str]:
    if not lowered.captured:
        text = text.replace(_CAPTURED_TOO, "")
    if len(indent) + len(text) <= WIDTH or _CAPTURED_TOO not in text:
        return [indent + text]
    head, _, tail = text.partition(_CAPTURED_TOO)
    return [f"{indent}{head},", f"{indent}# {_CAPTURED_TOO.removeprefix(', ')}{tail}"]


def _captured(lowered: Lowered) -> list[str]:
    """The argument that gives the captured values by name; none where nothing is captured."""
    values = ", ".join(f"{string(name)}: {name}" for name in lowered.captured)
    return [f"captured={{{values}}}"] if values else []


def _broken(line: str, style: Style) -> list[str]:
    """The lines of a line of its own that names captured values, if it is too long."""
    text = line.strip()
    if not text.startswith("captured={"):
        return [line]
    indent = line[: len(line) - len(line.lstrip())]
    return argument("captured", text.removeprefix("captured=").rstrip(","), indent, style.unit)


def _slots(text: str, lowered: Lowered) -> list[str]:
    """The parameters; a `/` among them belongs to the signature alone."""
    names = list(lowered.parameters)
    return names if text.startswith("def ") else [name for name in names if name != "/"]


def _unpacking(value: str, lowered: Lowered, indent: str, style: Style) -> list[str]:
    names = _slots(value, lowered)
    if not names:
        return []
    if len(names) == 1:
        return [f"{indent}({names[0]},) = {value}"]
    lines = bracketed("", names, f" = {value}", indent, style.unit)
    return lines if len(lines) == 1 else [f"{indent}(", *lines[1:-1], f"{indent}) = {value}"]


def _assignment_line(line: str, lowered: Lowered, style: Style) -> list[str]:
    indent, text = _indented(line, style)
    match = _KEYWORD.fullmatch(text)
    if match is None:
        return [indent + _named(text, lowered, style)]
    value = lowered.arguments.get(match["key"])
    return [] if value is None else argument(match["key"], value, indent, style.unit)


def _nondiff(lines: tuple[str, ...], wanted: bool) -> list[str]:
    """The lines with the call of `bwd` as it is for this rule; a short one fits on one line."""
    if wanted:
        return list(lines)
    text = "\n".join(lines)
    call = re.compile(r"\(\n\s+\*_vjp_run\.nondiff,\n\s+(.*),\n\s+(.*),\n\s+\)")
    return call.sub(r"(\1, \2)", text).split("\n")


def _indented(line: str, style: Style) -> tuple[str, str]:
    text = line.lstrip(" ")
    return style.indent + style.unit * ((len(line) - len(text)) // 4), text


def _named(text: str, lowered: Lowered, style: Style) -> str:
    text = with_prefix(text, style.prefix)
    text = text.replace("lifted_function", "lifted_" + lowered.function)
    return re.sub(r"^function\b", lowered.function, text)
