"""Annotations: from comments to keys with values.

    # custom-vjp: fwd=layer_fwd, bwd=layer_bwd
    # custom-vjp: grad_vars=(params, adapters)  # adjacent lines are one annotation

is read as the keywords of the Python call `_(fwd=..., bwd=..., grad_vars=...)`. The call is parsed
on its own, and every node's position is mapped back to the file, so that findings underline the
very value that is wrong.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vjpgen.compiler.report import nearest
from vjpgen.compiler.source import Position, Source, span_between
from vjpgen.compiler.tokens import ANNOTATION, Comment
from vjpgen.compiler.values import KEYS, Value, name_or_string, read_value
from vjpgen.diagnostics import Diagnostic, Span

# What Flax and others call these keys, where that is not much like ours.
_ELSEWHERE = {
    "backward": "bwd",
    "backward_fn": "bwd",
    "bwd_fn": "bwd",
    "forward": "fwd",
    "forward_fn": "fwd",
    "fwd_fn": "fwd",
}


@dataclass(frozen=True)
class Key:
    """One key of an annotation.

    Args:
        name: the key.
        node: its value's syntax tree; its positions are not the file's.
        text: its value's source text.
        value: its value, read as the key's kind wants.
        span: its value's place in the file.
    """

    name: str
    node: ast.expr
    text: str
    value: Value
    span: Span


@dataclass(frozen=True)
class Annotation:
    """One annotation, read.

    Args:
        comments: its lines.
        keys: its keys by name; what could not be read is left out.
        span: its place in the file.
        sound: whether all of it could be read.
    """

    comments: tuple[Comment, ...]
    keys: dict[str, Key]
    span: Span
    sound: bool

    @property
    def row(self) -> int:
        """Its first line."""
        return self.comments[0].row


def read_annotation(
    source: Source, comments: Sequence[Comment]
) -> tuple[Annotation, tuple[Diagnostic, ...]]:
    """Read the adjacent comment lines of one annotation."""
    span = span_between(comments[0].start, comments[-1].end)
    keywords, findings = _parse(source, comments)
    keys: dict[str, Key] = {}
    for keyword in keywords:
        found = _read_keyword(source, keyword, keys)
        if isinstance(found, Key):
            keys[found.name] = found
        else:
            findings.append(found)
    if "bwd" not in keys and not findings:
        findings.append(_missing_bwd(source, span))
    return Annotation(tuple(comments), keys, span, not findings), tuple(findings)


def near_misses(source: Source, comments: Sequence[Comment]) -> tuple[Diagnostic, ...]:
    """Comments that look like annotations; what they say is not done."""
    return tuple(
        Diagnostic(
            "VJP004",
            "this comment looks like an annotation but is not one",
            source.filename,
            span_between(comment.start, comment.end),
            "write `# custom-vjp: KEY=VALUE` at the start of the comment",
        )
        for comment in comments
        if comment.looks_like_annotation
    )


@dataclass(frozen=True)
class _Keyword:
    """A keyword of the parsed call, with places in the file."""

    name: str
    node: ast.expr
    text: str
    name_span: Span
    value_span: Span


@dataclass(frozen=True)
class _Piece:
    """Text to parse, and where each of its lines stands in the file."""

    lines: tuple[str, ...]
    starts: tuple[Position, ...]

    def place(self, row: int, column: int, *, utf8: bool = True) -> Position:
        """The place in the file of a place in `_(<lines>)`, both columns from 0."""
        index = min(max(row, 1), len(self.lines)) - 1
        line = ("_(" if index == 0 else "") + self.lines[index]
        if row > len(self.lines):
            column = len(line)
        elif utf8:
            column = len(line.encode()[:column].decode(errors="ignore"))
        start_row, start_column = self.starts[index]
        column = max(column - (2 if index == 0 else 0), 0)
        return start_row, start_column + min(column, len(self.lines[index]))

    def on_text(self, position: Position) -> Position:
        """A place, or the last character of its line where it stands past the end."""
        row, column = position
        lines = zip(self.lines, self.starts, strict=True)
        ends = [start + len(line) for line, (where, start) in lines if where == row]
        return row, max(min([column, *(end - 1 for end in ends)]), 0)


def _parse(source: Source, comments: Sequence[Comment]) -> tuple[list[_Keyword], list[Diagnostic]]:
    """The keywords of all lines: each line by itself if that works, else all of them as one."""
    pieces = [_piece([comment]) for comment in comments]
    try:
        calls = [_call(piece) for piece in pieces]
    except SyntaxError:
        pieces = [_piece(comments)]
        try:
            calls = [_call(pieces[0])]
        except SyntaxError as error:
            return [], [_does_not_parse(source, pieces[0], error)]
    keywords: list[_Keyword] = []
    findings: list[Diagnostic] = []
    for piece, call in zip(pieces, calls, strict=True):
        findings.extend(_positional(source, piece, call))
        keywords.extend(_keyword(piece, item) for item in call.keywords if item.arg is not None)
    return keywords, findings


def _piece(comments: Sequence[Comment]) -> _Piece:
    lines, starts = [], []
    for comment in comments:
        match = ANNOTATION.match(comment.text)
        assert match is not None
        text = comment.text[match.end() :]
        lead = len(text) - len(text.lstrip())
        lines.append(text.strip())
        starts.append((comment.row, comment.column + match.end() + lead))
    return _Piece(tuple(lines), tuple(starts))


def _call(piece: _Piece) -> ast.Call:
    """Parse a piece as the arguments of one call; `SyntaxError` if it is not that."""
    try:
        tree = ast.parse("_(" + "\n".join(piece.lines) + "\n)", mode="eval")
    except (ValueError, RecursionError, MemoryError) as error:
        raise SyntaxError(str(error)) from None
    call = tree.body
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        raise SyntaxError("unmatched ')'", ("", 1, 3, "", 1, 3))
    return call


def _keyword(piece: _Piece, item: ast.keyword) -> _Keyword:
    assert item.arg is not None
    begin = piece.place(item.lineno, item.col_offset)
    value = _node_span(piece, item.value)
    name_end = (begin[0], begin[1] + len(item.arg))
    text = ast.get_source_segment("_(" + "\n".join(piece.lines) + "\n)", item.value) or ""
    return _Keyword(item.arg, item.value, text, span_between(begin, name_end), value)


def _node_span(piece: _Piece, node: ast.expr) -> Span:
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return span_between(
        piece.place(node.lineno, node.col_offset),
        piece.place(node.end_lineno, node.end_col_offset),
    )


def _read_keyword(source: Source, keyword: _Keyword, seen: dict[str, Key]) -> Key | Diagnostic:
    name = keyword.name
    if name not in KEYS:
        guess = _ELSEWHERE.get(name) or nearest(name, KEYS)
        return Diagnostic(
            "VJP002",
            f"unknown key `{name}`",
            source.filename,
            keyword.name_span,
            f"did you mean `{guess}`?" if guess else "the keys are: " + ", ".join(sorted(KEYS)),
        )
    if name in seen:
        return Diagnostic(
            "VJP003",
            f"key `{name}` is given twice",
            source.filename,
            keyword.name_span,
            f"keep one `{name}=`",
        )
    value = read_value(name, keyword.node)
    if value is None:
        return Diagnostic(
            "VJP007",
            f"`{name}` cannot be `{keyword.text}`",
            source.filename,
            keyword.value_span,
            _what_fits(name, keyword.node),
        )
    return Key(name, keyword.node, keyword.text, value, keyword.value_span)


def _what_fits(key: str, node: ast.expr) -> str:
    """What to write in place of a value of the wrong kind."""
    kind, text = KEYS[key], name_or_string(node)
    guess = nearest(text.rpartition(".")[2], kind.choices) if text else None
    return f"did you mean `{guess}`?" if guess else kind.help


def _does_not_parse(source: Source, piece: _Piece, error: SyntaxError) -> Diagnostic:
    row, column = error.lineno or 1, (error.offset or 1) - 1
    begin = end = piece.on_text(piece.place(row, column, utf8=False))
    if error.end_lineno and error.end_offset and (error.end_lineno, error.end_offset) > (0, 0):
        end = piece.place(error.end_lineno, error.end_offset - 1, utf8=False)
    if end <= begin:
        end = begin[0], begin[1] + 1
    return Diagnostic(
        "VJP001",
        f"the annotation does not parse: {_reason(error)}",
        source.filename,
        span_between(begin, end),
        "write `# custom-vjp: KEY=VALUE, KEY=VALUE`, each value a Python expression",
    )


def _reason(error: SyntaxError) -> str:
    """What Python says, without what is true only of the call that it was given."""
    reason = error.msg.partition(" (detected at line ")[0]
    return "a key is a plain name" if reason.startswith("expression cannot contain ") else reason


def _positional(source: Source, piece: _Piece, call: ast.Call) -> Iterator[Diagnostic]:
    unnamed: list[ast.expr] = [*call.args, *(k.value for k in call.keywords if k.arg is None)]
    for node in unnamed:
        yield Diagnostic(
            "VJP001",
            "the annotation does not parse: every value needs a key",
            source.filename,
            _node_span(piece, node),
            "write `# custom-vjp: KEY=VALUE, KEY=VALUE`",
        )


def _missing_bwd(source: Source, span: Span) -> Diagnostic:
    return Diagnostic(
        "VJP006",
        "the annotation names no backward rule",
        source.filename,
        span,
        "add `bwd=NAME`, the function that turns output tangents into input tangents",
    )
