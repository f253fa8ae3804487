"""Annotations as text: what stands at a cursor, however unfinished.

    # custom-vjp: bwd=sign_bwd, nondiff_argnames=(tra|

is read up to the cursor as the key `nondiff_argnames` and the beginning `tra` of a value. The
compiler reads annotations that are whole; a person's half-written one is read here.
"""

from __future__ import annotations

import io
import re
import tokenize
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vjpgen.compiler.source import Position
from vjpgen.compiler.tokens import ANNOTATION, Comment
from vjpgen.compiler.values import KEYS
from vjpgen.lsp.document import Document

_TOKEN = re.compile(r"'(?:\\.|[^'\\\n])*'?|\"(?:\\.|[^\"\\\n])*\"?|[^'\"]", re.DOTALL)
_HEAD = re.compile(r"\s*([A-Za-z_]\w*)\s*(=(?!=))?\s*")
_NEW_KEY = re.compile(r"\s*(?:" + "|".join(KEYS) + r")\s*=(?!=)")


@dataclass(frozen=True)
class Part:
    """One `KEY=VALUE`, as far as it is written; offsets are into the annotation's text.

    Args:
        start: where it begins, after the comma or colon before it.
        end: where it ends.
        name: the key.
        name_start: where the key begins.
        value: the value's text; None where there is no `=` yet.
        value_start: where the value begins.
    """

    start: int
    end: int
    name: str
    name_start: int
    value: str | None
    value_start: int


@dataclass(frozen=True)
class AnnotationText:
    """The adjacent comment lines of one annotation, as one text.

    Args:
        comments: the lines.
        text: what they say after `custom-vjp:`, a newline between; comments in it are blanked.
        starts: for each line its offset in the text and its place in the file.
    """

    comments: tuple[Comment, ...]
    text: str
    starts: tuple[tuple[int, Position], ...]

    @property
    def first_row(self) -> int:
        return self.comments[0].row

    @property
    def last_row(self) -> int:
        return self.comments[-1].row

    @property
    def parts(self) -> tuple[Part, ...]:
        """What stands between its commas, empty parts left out."""
        return tuple(part for part in self.segments if part.name or part.value)

    @property
    def segments(self) -> tuple[Part, ...]:
        """What stands between its commas."""
        return tuple(_part(self.text, start, end) for start, end in _stretches(self.text))

    def offset(self, position: Position) -> int | None:
        """The offset of a place in the file, None where the place is in no part of it."""
        row, column = position
        for index, (offset, (line_row, line_column)) in enumerate(self.starts):
            if line_row == row and column >= line_column:
                end = self._line_end(index)
                return offset + column - line_column if column <= line_column + end else None
        return None

    def place(self, offset: int) -> Position:
        """The place in the file of an offset."""
        index = bisect_right([start for start, _ in self.starts], offset) - 1
        start, (row, column) = self.starts[max(index, 0)]
        return row, column + offset - start

    def at(self, offset: int) -> Part | None:
        """The part that an offset lies in."""
        return next((part for part in self.segments if part.start <= offset <= part.end), None)

    def _line_end(self, index: int) -> int:
        start = self.starts[index][0]
        end = self.text.find("\n", start)
        return (len(self.text) if end < 0 else end) - start


def comments_of(document: Document) -> tuple[Comment, ...]:
    """The comments of a buffer; past what cannot be tokenized, those on lines of their own."""
    lines = [line.rstrip("\r\n") + "\n" for line in document.lines]
    found: list[Comment] = []
    if "\0" in document.text:  # some versions' tokenizers fail on it
        return tuple(_plain_comments(document, 1))
    reached = 1
    try:
        for token in tokenize.generate_tokens(io.StringIO("".join(lines)).readline):
            reached = token.end[0]
            if token.type == tokenize.COMMENT:
                row, column = token.start
                own_line = not lines[row - 1][:column].strip()
                found.append(Comment(row, column, token.string, own_line))
    except (tokenize.TokenError, SyntaxError, ValueError):
        last = found[-1].row if found else 0
        found += _plain_comments(document, max(reached, last + 1))
    return tuple(found)


def _plain_comments(document: Document, first: int) -> Iterator[Comment]:
    """The lines from a row on that are comments, as far as their own text shows."""
    for row in range(first, len(document.lines) + 1):
        text = document.line(row)
        if text.lstrip().startswith("#"):
            column = len(text) - len(text.lstrip())
            yield Comment(row, column, text[column:].rstrip(), own_line=True)


def annotations_of(comments: Sequence[Comment]) -> tuple[AnnotationText, ...]:
    """The annotations among the comments, adjacent lines as one."""
    own = frozenset(comment.row for comment in comments if comment.own_line)
    groups: list[list[Comment]] = []
    for comment in comments:
        if not comment.is_annotation:
            continue
        last = groups[-1][-1] if groups else None
        if last is not None and own.issuperset(range(last.row, comment.row + 1)):
            groups[-1].append(comment)
        else:
            groups.append([comment])
    return tuple(_text(group) for group in groups)


def annotation_at(annotations: Sequence[AnnotationText], row: int) -> AnnotationText | None:
    """The annotation that has a line in this row."""
    for annotation in annotations:
        if any(comment.row == row for comment in annotation.comments):
            return annotation
    return None


def _text(group: Sequence[Comment]) -> AnnotationText:
    pieces: list[str] = []
    starts: list[tuple[int, Position]] = []
    length = 0
    for comment in group:
        match = ANNOTATION.match(comment.text)
        assert match is not None
        text = _without_comment(comment.text[match.end() :])
        starts.append((length, (comment.row, comment.column + match.end())))
        pieces.append(text)
        length += len(text) + 1
    return AnnotationText(tuple(group), "\n".join(pieces), tuple(starts))


def _without_comment(text: str) -> str:
    """What stands in front of a second `#`."""
    for match in _TOKEN.finditer(text):
        if match[0] == "#":
            return text[: match.start()].rstrip(" \t") + " "
    return text


def _stretches(text: str) -> Iterator[tuple[int, int]]:
    """Where the parts between commas outside of brackets begin and end."""
    start = depth = 0
    for match in _TOKEN.finditer(text):
        token, at = match[0], match.start()
        if token in "([{":
            depth += 1
        elif token in ")]}":
            depth = max(depth - 1, 0)
        elif token == "\n" and (depth == 0 or _NEW_KEY.match(text, at + 1)):
            yield start, at
            start, depth = at + 1, 0
        elif token == "," and depth == 0:
            yield start, at
            start = at + 1
    yield start, len(text)


def _part(text: str, start: int, end: int) -> Part:
    match = _HEAD.match(text, start, end)
    if match is None:
        rest = text[start:end].strip() or None
        return Part(start, end, "", start, rest, start)
    value = text[match.end() : end].rstrip() if match[2] else None
    return Part(start, end, match[1], match.start(1), value, match.end())
