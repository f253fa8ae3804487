"""Results of the compiler in a form that a cache can hold.

An entry stands for one source under one set of options. It holds good while the source's bytes
are the same and every question that compiling it asked about other modules has the same answer;
so a new annotated module makes those be compiled again that import it, and no others. Where the
texts that the answers come from are the same, the answers are, and the texts are not parsed.
"""

from __future__ import annotations

import hashlib
from dataclasses import astuple
from typing import Any

from vjpgen.building.cache import Cache
from vjpgen.building.compiling import Made, Task, digest_of
from vjpgen.compiler import Result, RuleInfo
from vjpgen.diagnostics import Diagnostic, Span


def entry_name(path: str, task: Task) -> str:
    """Return the name of the entry for a source, by its absolute path."""
    siblings = task.siblings
    return repr((path, task.options, siblings.package, bool(siblings.modules)))


def load(cache: Cache, name: str, task: Task) -> Result | None:
    """Return the stored result, if it holds for this task."""
    found = cache.load(name)
    if found is None:
        return None
    record, output = found
    if record["source"] != _digest(task.data) or not _holds(record, task):
        return None
    return Result(
        output=output if record["has_output"] else None,
        diagnostics=tuple(_diagnostic(item, task.filename) for item in record["diagnostics"]),
        rules=tuple(_rule(item, task.filename) for item in record["rules"]),
    )


def store(cache: Cache, name: str, task: Task, made: Made) -> None:
    """Keep a result."""
    result = made.result
    record = {
        "source": _digest(task.data),
        "asked": [[*question, answer] for question, answer in made.notes.asked.items()],
        "read": made.notes.read,
        "has_output": result.output is not None,
        "diagnostics": [_diagnostic_record(item) for item in result.diagnostics],
        "rules": [_rule_record(item) for item in result.rules],
    }
    cache.store(name, record, result.output or b"")


def _holds(record: dict[str, Any], task: Task) -> bool:
    """Whether other modules still are what they were when the entry was made."""
    asked, sources = record["asked"], task.siblings.sources
    same_texts = all(digest_of(sources, name) == old for name, old in record["read"].items())
    return all(
        _plain(getattr(task.siblings, question)(*arguments)) == answer
        for question, *arguments, answer in asked
        if not same_texts or question == "annotated"
    )


def _plain(answer: Any) -> Any:
    """Return an answer as JSON gives it back."""
    return [_plain(each) for each in answer] if isinstance(answer, tuple) else answer


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _diagnostic_record(item: Diagnostic) -> list[Any]:
    place = None if item.annotation is None else astuple(item.annotation)
    return [item.code, item.message, astuple(item.span), item.help, place]


def _diagnostic(record: list[Any], filename: str) -> Diagnostic:
    code, message, span, help_, place = record
    annotation = None if place is None else Span(*place)
    return Diagnostic(code, message, filename, Span(*span), help_, annotation)


def _rule_record(item: RuleInfo) -> list[Any]:
    return [item.name, item.target, astuple(item.span), dict(item.keys)]


def _rule(record: list[Any], filename: str) -> RuleInfo:
    name, target, span, keys = record
    return RuleInfo(name, target, filename, Span(*span), keys)
