"""What the compiler knows of each annotated function of a file, for whoever shows it.

The stages of the pipeline as far as they go without stopping at a finding: a rule that has errors
is there with them, and without generated text.
"""

from __future__ import annotations

import ast
import warnings
from dataclasses import dataclass

from vjpgen.compiler import imports, insertion
from vjpgen.compiler.attach import attach
from vjpgen.compiler.check import check
from vjpgen.compiler.facts import Facts
from vjpgen.compiler.header import is_generated
from vjpgen.compiler.imports import Redirection
from vjpgen.compiler.lower import lower
from vjpgen.compiler.pipeline import facts_of, prefix_of
from vjpgen.compiler.reading import Parsed, read
from vjpgen.compiler.result import Options
from vjpgen.compiler.siblings import Siblings
from vjpgen.compiler.source import Source
from vjpgen.compiler.targets import Target, target_of
from vjpgen.compiler.tokens import has_annotation
from vjpgen.diagnostics import Diagnostic


@dataclass(frozen=True, eq=False)
class InspectedRule:
    """One annotated function.

    Args:
        facts: all that is known of it.
        target: what it is lifted as.
        findings: the errors in its annotation and rules.
        lifted: the text that is generated below it; None where errors stand against it.
    """

    facts: Facts
    target: Target
    findings: tuple[Diagnostic, ...]
    lifted: str | None

    def has_row(self, row: int) -> bool:
        """Whether a line of its annotation stands in this row."""
        return any(comment.row == row for comment in self.facts.annotation.comments)


@dataclass(frozen=True, eq=False)
class Inspection:
    """One file.

    Args:
        source: its text.
        tree: its syntax tree.
        unit: what one level of indentation is in it.
        rules: its annotated functions, in the order of the file.
    """

    source: Source
    tree: ast.Module
    unit: str
    rules: tuple[InspectedRule, ...]

    def at(self, row: int) -> InspectedRule | None:
        """The rule whose annotation has a line in this row."""
        return next((rule for rule in self.rules if rule.has_row(row)), None)


def inspect_source(
    data: bytes, filename: str, options: Options, siblings: Siblings
) -> Inspection | None:
    """Inspect one file; None where it does not parse or nothing in it is annotated.

    Args:
        data: the file's bytes.
        filename: the file as the user named it.
        options: what the configuration and the file's place decide.
        siblings: the annotated modules whose imports are redirected.
    """
    if not has_annotation(data) or is_generated(data):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            parsed = read(data, filename)
            return _inspect(parsed, options, siblings) if isinstance(parsed, Parsed) else None
        except (RecursionError, MemoryError):
            return None


def _inspect(parsed: Parsed, options: Options, siblings: Siblings) -> Inspection:
    source, tree = parsed.source, parsed.tree
    sites, _ = attach(source, tree, parsed.module, parsed.comments)
    annotated, found = facts_of(source, tree, sites)
    redirection = imports.redirect(source, tree, siblings, options.suffix)
    rules = []
    for facts in annotated:
        target = target_of(facts)
        own = [item for item in found if facts.annotation.span.row <= item.span.row]
        own = [item for item in own if item.span.row <= facts.annotation.span.end_row]
        errors = tuple(item for item in (*own, *check(facts, target)) if item.is_error)
        lifted = None if errors else _lifted(parsed, facts, target, options, redirection)
        rules.append(InspectedRule(facts, target, errors, lifted))
    return Inspection(source, tree, parsed.module.default_indent, tuple(rules))


def _lifted(
    parsed: Parsed, facts: Facts, target: Target, options: Options, redirection: Redirection
) -> str:
    """The text below the function, without the blank lines around it."""
    lowered = lower(facts, target, options, redirection)
    comments = {comment.row: comment for comment in parsed.comments if comment.own_line}
    prefix, unit = prefix_of(parsed.source), parsed.module.default_indent
    edit = insertion.lifted(parsed.source, facts.node, lowered, comments, prefix, unit)
    return edit.text.replace("\r\n", "\n").strip("\n")
