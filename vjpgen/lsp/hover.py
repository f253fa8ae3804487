"""What is shown for the place under the mouse: a rule, a key, a code."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from textwrap import dedent

from vjpgen.compiler.facts import Facts
from vjpgen.compiler.inspection import InspectedRule
from vjpgen.compiler.keys import text_of
from vjpgen.compiler.references import Reference
from vjpgen.compiler.source import Position, span_between
from vjpgen.compiler.values import KEYS
from vjpgen.diagnostics import Span
from vjpgen.diagnostics.catalogue import CATALOGUE, Entry
from vjpgen.diagnostics.catalogue.markdown import body, severity
from vjpgen.diagnostics.suppressions import read_suppressions
from vjpgen.lsp.definition import function_of, resolve
from vjpgen.lsp.reading import AnnotationText, Part
from vjpgen.lsp.view import View

_SHOWN_DEFAULTS = ("fwd", "grad_vars", "nondiff_argnums", "nondiff_argnames", "missing")


@dataclass(frozen=True)
class Hover:
    """Markdown, and the stretch that it is about."""

    markdown: str
    span: Span


def hover(view: View, position: Position) -> Hover | None:
    """What to show for a place; None for nothing."""
    shown = _code(view, position)
    annotation = view.annotation(position[0])
    if shown is not None or annotation is None or view.comment_at(position) is None:
        return shown
    offset = annotation.offset(position)
    part = None if offset is None else annotation.at(offset)
    if offset is not None and part is not None and _on_key(part, offset):
        return _key(annotation, part)
    return _rule(view, annotation)


def explanation(entry: Entry) -> str:
    """What a code means, in Markdown."""
    return f"**{entry.code}: {entry.title}** ({severity(entry)})\n\n{body(entry)}"


def key_text(name: str) -> str:
    """What a key means, in Markdown."""
    text = text_of(name)
    if text is None:
        return ""
    meaning = text.meaning[0].upper() + text.meaning[1:]
    return f"**`{name}`**\n\n{meaning}.\n\nDefault: {text.default}. {_write(name)}"


def _write(name: str) -> str:
    help_ = KEYS[name].help
    return help_[0].upper() + help_[1:] + "."


def _code(view: View, position: Position) -> Hover | None:
    """The explanation of a code in `# vjpgen: ignore[...]`."""
    row, column = position
    for item in read_suppressions(view.document.data):
        inside = item.span.column <= column + 1 <= item.span.end_column
        if item.code in CATALOGUE and item.span.row == row and inside:
            return Hover(explanation(CATALOGUE[item.code]), item.span)
    return None


def _on_key(part: Part, offset: int) -> bool:
    return part.name in KEYS and part.name_start <= offset < part.name_start + len(part.name)


def _key(annotation: AnnotationText, part: Part) -> Hover:
    start = annotation.place(part.name_start)
    span = span_between(start, (start[0], start[1] + len(part.name)))
    return Hover(key_text(part.name), span)


def _rule(view: View, annotation: AnnotationText) -> Hover | None:
    """The rule that an annotation gives, and what is generated from it."""
    rule = None if view.inspection is None else view.inspection.at(annotation.first_row)
    if rule is None:
        return None
    first, last = annotation.comments[0], annotation.comments[-1]
    return Hover("\n\n".join(_rule_text(view, rule)), span_between(first.start, last.end))


def _rule_text(view: View, rule: InspectedRule) -> Iterator[str]:
    facts = rule.facts
    yield f"**`{facts.qualname}`**, a rule of target `{rule.target.name}`"
    yield "\n".join([*_given(view, facts), *_defaults(view, facts)])
    slots = [_slot(facts, name) for name in facts.signature.names if name not in facts.nondiff]
    yield f"`bwd` returns {_list(slots)}." if slots else "`bwd` returns no tangents."
    for item in rule.findings:
        yield f"{item.code}: {item.message}"
    if rule.lifted is None:
        yield "Nothing is generated until this is mended."
    else:
        yield f"Generated:\n\n{_code_block(dedent(rule.lifted))}"


def _given(view: View, facts: Facts) -> Iterator[str]:
    references = {reference.key.name: reference for reference in facts.references()}
    for name, key in facts.annotation.keys.items():
        found = _reference(view, references[name]) if name in references else ""
        yield f"- `{name}={' '.join(key.text.split())}`{found}"


def _reference(view: View, reference: Reference) -> str:
    """What a rule's name stands for: its signature and its place."""
    found = reference.found
    if reference.name is None or found is None:
        return ""
    scope = found.scope
    for location in resolve(view, scope, reference.name) if scope is not None else ():
        place = f"{os.path.basename(location.document.path)}:{location.span.row}"
        node = function_of(location)
        signature = "" if node is None else f" `{node.name}({ast.unparse(node.args)})`,"
        return f":{signature} {place}"
    return ""


def _defaults(view: View, facts: Facts) -> Iterator[str]:
    for name in _SHOWN_DEFAULTS:
        text = text_of(name)
        if name in facts.annotation.keys or text is None:
            continue
        policy = view.policy if name == "missing" else None
        default = f"`{policy}`, as configured" if policy else f"{text.default} (default)"
        yield f"- `{name}`: {default}"


def _slot(facts: Facts, name: str) -> str:
    stars = {facts.signature.vararg: "*", facts.signature.kwarg: "**"}.get(name, "")
    return f"`{stars}{name}`"


def _list(items: list[str]) -> str:
    noun = "one tangent for" if len(items) == 1 else "one tangent each for"
    return f"{noun} {', '.join(items)}"


def _code_block(text: str) -> str:
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`{3,}", text)), 3)
    return f"{fence}python\n{text.rstrip()}\n{fence}"
