"""The compiler, stage by stage.

tokens -> annotations -> parse -> attach -> resolve -> check -> lower -> emit -> self-check
"""

from __future__ import annotations

import ast
import gc
import re
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from vjpgen.compiler import imports, insertion
from vjpgen.compiler.annotations import Annotation, near_misses, read_annotation
from vjpgen.compiler.attach import Definition, Site, attach
from vjpgen.compiler.check import check
from vjpgen.compiler.edits import Edit, apply
from vjpgen.compiler.facts import Facts, scopes_of
from vjpgen.compiler.header import is_generated, preamble_length, render_header
from vjpgen.compiler.lower import lower
from vjpgen.compiler.reading import Parsed, compile_error, not_carried, read, too_deep
from vjpgen.compiler.result import Options, Result, RuleInfo
from vjpgen.compiler.rows import source_rows
from vjpgen.compiler.selfcheck import fault
from vjpgen.compiler.siblings import Siblings
from vjpgen.compiler.source import Source
from vjpgen.compiler.targets import Target, target_of
from vjpgen.compiler.tokens import has_annotation
from vjpgen.diagnostics import Diagnostic

_RESERVED = re.compile(r"(?<!\w)_vjp\w*")


def run(data: bytes, filename: str, options: Options, siblings: Siblings) -> Result:
    """Compile one file; every finding is in the result, none is raised."""
    if not has_annotation(data) or is_generated(data):
        return Result()
    with warnings.catch_warnings(), _no_collection():
        warnings.simplefilter("ignore")
        try:
            return _run(data, filename, options, siblings)
        except (RecursionError, MemoryError):
            return Result(diagnostics=(too_deep(filename),))


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the collector of cycles off the syntax trees: they are large and hold none."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _run(data: bytes, filename: str, options: Options, siblings: Siblings) -> Result:
    parsed = read(data, filename)
    if not isinstance(parsed, Parsed):
        return Result(diagnostics=() if parsed is None else (parsed,))
    source, tree, comments = parsed.source, parsed.tree, parsed.comments
    sites, findings = attach(source, tree, parsed.module, comments)
    annotated, more = facts_of(source, tree, sites)
    findings = (*near_misses(source, comments), *findings, *more)
    targets = [(facts, target_of(facts)) for facts in annotated]
    for facts, target in targets:
        place = facts.annotation.span
        findings += tuple(replace(item, annotation=place) for item in check(facts, target))
    rules = tuple(_rule(facts, target) for facts, target in targets)
    findings = _in_order(findings)
    if _has_error(findings) or not targets:
        return Result(None, _with_compile_error(source, findings), rules)
    edits = _edits(parsed, targets, options, siblings)
    output, all_edits = _emit(source, edits, options)
    wrong = fault(source, output, all_edits)
    if wrong is not None:
        checked = _with_compile_error(source, findings)
        if checked == findings:
            checked = _in_order((*findings, not_carried(filename, wrong)))
        return Result(None, checked, rules)
    return Result(output, findings, rules, source_rows(source, output, all_edits))


def facts_of(
    source: Source, tree: ast.Module, sites: Sequence[Site]
) -> tuple[list[Facts], tuple[Diagnostic, ...]]:
    """Read each site's annotation and gather the facts of its function."""
    findings: list[Diagnostic] = []
    read: list[tuple[Definition, Annotation]] = []
    for site in sites:
        annotation, found = read_annotation(source, site.comments)
        findings.extend(found)
        read.append((site.node, annotation))
    scopes = scopes_of(tree, {node for node, _ in read})
    annotated: dict[Definition, Facts] = {}
    for node, note in read:
        annotated[node] = Facts(source, note, node, scopes[node], annotated)
    return list(annotated.values()), tuple(findings)


def _edits(
    parsed: Parsed,
    targets: Sequence[tuple[Facts, Target]],
    options: Options,
    siblings: Siblings,
) -> list[Edit]:
    """Everything that the generated module changes of the source, but for the header."""
    source, tree = parsed.source, parsed.tree
    prefix = prefix_of(source)
    comments = {comment.row: comment for comment in parsed.comments if comment.own_line}
    redirection = imports.redirect(source, tree, siblings, options.suffix, prefix)
    edits = list(redirection.edits)
    runtime = insertion.runtime_import(source, tree, targets[0][1].template, prefix)
    edits.append(replace(runtime, row=min(facts.annotation.row for facts, _ in targets)))
    for facts, target in reversed(targets):  # an inner function may end where its outer one does
        lowered = lower(facts, target, options, redirection)
        unit = parsed.module.default_indent
        edit = insertion.lifted(source, facts.node, lowered, comments, prefix, unit)
        edits.append(replace(edit, row=facts.annotation.row))
    return edits


def _emit(source: Source, edits: list[Edit], options: Options) -> tuple[bytes, list[Edit]]:
    """The generated module, and the edits with the header's among them."""
    edits = [replace(edit, text=source.encodable(edit.text)) for edit in edits]
    body = source.encode(apply(source.text, edits))
    header = render_header(options.origin, body).replace("\n", source.newline)
    header = source.encodable(header)
    preamble = source.data[: preamble_length(source.data)].removeprefix(source.bom)
    start = len(preamble.decode(source.encoding))
    edits = [Edit(start, start, header), *edits]
    return source.encode(apply(source.text, edits)), edits


def prefix_of(source: Source) -> str:
    """A prefix for generated names that no name of the module begins with, in strings neither."""
    text = source.text if source.text.isascii() else unicodedata.normalize("NFKC", source.text)
    names = frozenset(_RESERVED.findall(text) if "_vjp" in text else ())
    prefix, number = "_vjp", 0
    while any(name.startswith(prefix) for name in names):
        number += 1
        prefix = f"_vjp{number}"
    return prefix


def _rule(facts: Facts, target: Target) -> RuleInfo:
    keys = {name: key.text for name, key in facts.annotation.keys.items()}
    filename, span = facts.source.filename, facts.annotation.span
    return RuleInfo(facts.qualname, target.name, filename, span, keys)


def _has_error(findings: Sequence[Diagnostic]) -> bool:
    return any(finding.is_error for finding in findings)


def _in_order(findings: Sequence[Diagnostic]) -> tuple[Diagnostic, ...]:
    return tuple(sorted(dict.fromkeys(findings), key=lambda f: (f.span, f.code, f.message)))


def _with_compile_error(source: Source, findings: tuple[Diagnostic, ...]) -> tuple[Diagnostic, ...]:
    """The findings, unless Python's compiler refuses what its parser let pass.

    Such a file means nothing yet: what is left is why it is refused, and what its comments say.
    """
    error = compile_error(source)
    if error is None:
        return findings
    return _in_order((*(f for f in findings if f.code.startswith("VJP0")), error))
