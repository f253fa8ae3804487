"""The compiler, stage by stage.

tokens -> annotations -> parse -> attach -> resolve -> check -> lower -> emit -> self-check
"""

from __future__ import annotations

import ast
import tokenize
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

import libcst as cst

from vjpgen.compiler import imports, insertion
from vjpgen.compiler.annotations import Annotation, read_annotation
from vjpgen.compiler.attach import Definition, Site, attach
from vjpgen.compiler.check import check
from vjpgen.compiler.edits import Edit, apply
from vjpgen.compiler.facts import Facts, scopes_of
from vjpgen.compiler.header import is_generated, preamble_length, render_header
from vjpgen.compiler.lower import lower
from vjpgen.compiler.result import Options, Result, RuleInfo, Siblings
from vjpgen.compiler.selfcheck import fault
from vjpgen.compiler.source import Source, decode, span_between
from vjpgen.compiler.targets import Target, target_of
from vjpgen.compiler.tokens import Tokens, has_annotation, read_tokens
from vjpgen.diagnostics import Diagnostic, Span


@dataclass(frozen=True)
class _Parsed:
    """A file, read in every way that a stage needs."""

    source: Source
    tree: ast.Module
    module: cst.Module
    tokens: Tokens


def run(data: bytes, filename: str, options: Options, siblings: Siblings) -> Result:
    """Compile one file; every finding is in the result, none is raised."""
    if not has_annotation(data) or is_generated(data):
        return Result()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _run(data, filename, options, siblings)
        except (RecursionError, MemoryError):
            return Result(diagnostics=(_too_deep(filename),))


def _run(data: bytes, filename: str, options: Options, siblings: Siblings) -> Result:
    read = _read(data, filename)
    if isinstance(read, Result):
        return read
    source, tree, tokens = read.source, read.tree, read.tokens
    sites, findings = attach(source, tree, read.module, tokens.comments)
    annotated, more = _annotations(source, tree, sites)
    findings = (*_near_misses(source, tokens), *findings, *more)
    targets = [(facts, target_of(facts)) for facts in annotated]
    for facts, target in targets:
        findings += tuple(check(facts, target))
    rules = tuple(_rule(facts, target) for facts, target in targets)
    findings = _in_order(findings)
    if _has_error(findings) or not targets:
        return Result(None, _with_compile_error(source, findings), rules)
    edits = _edits(read, targets, options, siblings)
    output, all_edits = _emit(source, edits, options)
    wrong = fault(source, output, all_edits)
    if wrong is not None:
        broken = _compile_error(source) or _not_carried(filename, wrong)
        return Result(None, _in_order((*findings, broken)), rules)
    return Result(output, findings, rules)


def _read(data: bytes, filename: str) -> _Parsed | Result:
    """Decode, parse and tokenize; a Result where there is nothing to compile."""
    try:
        tree = ast.parse(data, filename)
        source = decode(data, filename)
        tokens = read_tokens(source)
    except (SyntaxError, ValueError, tokenize.TokenError) as error:
        return Result(diagnostics=(_does_not_parse(filename, error),))
    if not any(c.is_annotation or c.looks_like_annotation for c in tokens.comments):
        return Result()
    module = _concrete(source)
    if isinstance(module, str):
        return Result(diagnostics=(_not_carried(filename, module),))
    return _Parsed(source, tree, module, tokens)


def _concrete(source: Source) -> cst.Module | str:
    """libcst's tree, or why there is none; what libcst raises for odd sources has no one class."""
    try:
        module = cst.parse_module(source.data)
        kept = module.bytes == source.data and source.encode(source.text) == source.data
    except (KeyboardInterrupt, SystemExit, RecursionError, MemoryError):
        raise
    except BaseException as error:
        return f"libcst cannot read it ({type(error).__name__})"
    return module if kept else "a form feed or a lone carriage return would be lost"


def _annotations(
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
    return [Facts(source, note, node, scopes[node]) for node, note in read], tuple(findings)


def _edits(
    read: _Parsed,
    targets: Sequence[tuple[Facts, Target]],
    options: Options,
    siblings: Siblings,
) -> list[Edit]:
    """Everything that the generated module changes of the source, but for the header."""
    source, tree, tokens = read.source, read.tree, read.tokens
    prefix = _prefix(tokens)
    comments = {comment.row: comment for comment in tokens.comments if comment.own_line}
    redirection = imports.redirect(source, tree, siblings, options.suffix)
    edits = list(redirection.edits)
    edits.append(insertion.runtime_import(source, tree, targets[0][1].template, prefix))
    for facts, target in reversed(targets):  # an inner function may end where its outer one does
        lowered = lower(facts, target, options, redirection)
        unit = read.module.default_indent
        edits.append(insertion.lifted(source, facts.node, lowered, comments, prefix, unit))
    return edits


def _emit(source: Source, edits: list[Edit], options: Options) -> tuple[bytes, list[Edit]]:
    """The generated module, and the edits with the header's among them."""
    body = source.encode(apply(source.text, edits))
    header = render_header(options.origin, body).replace("\n", source.newline)
    header = header.encode(source.encoding, "backslashreplace").decode(source.encoding)
    preamble = source.data[: preamble_length(source.data)].removeprefix(source.bom)
    start = len(preamble.decode(source.encoding))
    edits = [Edit(start, start, header), *edits]
    return source.encode(apply(source.text, edits)), edits


def _prefix(tokens: Tokens) -> str:
    """A prefix for generated names that no name of the module begins with."""
    prefix, number = "_vjp", 0
    while any(name.startswith(prefix) for name in tokens.names):
        number += 1
        prefix = f"_vjp{number}"
    return prefix


def _rule(facts: Facts, target: Target) -> RuleInfo:
    keys = {name: key.text for name, key in facts.annotation.keys.items()}
    filename, span = facts.source.filename, facts.annotation.span
    return RuleInfo(facts.qualname, target.name, filename, span, MappingProxyType(keys))


def _near_misses(source: Source, tokens: Tokens) -> tuple[Diagnostic, ...]:
    return tuple(
        Diagnostic(
            "VJP004",
            "this comment looks like an annotation but is not one",
            source.filename,
            span_between(comment.start, comment.end),
            "write `# custom-vjp: KEY=VALUE` at the start of the comment",
        )
        for comment in tokens.comments
        if comment.looks_like_annotation
    )


def _has_error(findings: Sequence[Diagnostic]) -> bool:
    return any(finding.is_error for finding in findings)


def _in_order(findings: Sequence[Diagnostic]) -> tuple[Diagnostic, ...]:
    return tuple(sorted(dict.fromkeys(findings), key=lambda f: (f.span, f.code, f.message)))


def _with_compile_error(source: Source, findings: tuple[Diagnostic, ...]) -> tuple[Diagnostic, ...]:
    """The findings, after them what Python's parser lets pass and its compiler does not."""
    error = _compile_error(source)
    return findings if error is None else _in_order((*findings, error))


def _compile_error(source: Source) -> Diagnostic | None:
    try:
        compile(source.data, source.filename, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        return _does_not_parse(source.filename, error)
    return None


def _does_not_parse(filename: str, error: Exception) -> Diagnostic:
    row = column = 1
    end_row = end_column = 0
    message = str(error)
    if isinstance(error, SyntaxError):
        row, column = error.lineno or 1, max(error.offset or 1, 1)
        end_row, end_column = error.end_lineno or 0, error.end_offset or 0
        message = error.msg
    if (end_row, end_column) <= (row, column):
        end_row, end_column = row, column + 1
    span = Span(row, column, end_row, end_column)
    return Diagnostic("VJP008", f"the file does not parse: {message}", filename, span)


def _not_carried(filename: str, why: str) -> Diagnostic:
    message = f"the source cannot be carried over byte for byte: {why}"
    return Diagnostic("VJP903", message, filename, Span(1, 1, 1, 1))


def _too_deep(filename: str) -> Diagnostic:
    message = "the source is nested too deeply to be compiled"
    help_ = "break the deepest expression into named parts"
    return Diagnostic("VJP903", message, filename, Span(1, 1, 1, 1), help_)
