"""Comments `# vjpgen: ignore[VJP302]`, which silence the findings of one line."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from vjpgen.diagnostics import Diagnostic, Span
from vjpgen.diagnostics.text import decode

_COMMENT = re.compile(r"#\s*vjpgen:\s*ignore(?![\w-])(?:\[([^\]#]*)\])?")
_CODE = re.compile(r"[^\s,]+")


@dataclass(frozen=True)
class Suppression:
    """One code that one comment silences; `code` is None where the comment names none."""

    code: str | None
    span: Span


def read_suppressions(source: bytes) -> tuple[Suppression, ...]:
    """Find every suppression among the comments of a source file."""
    if b"vjpgen:" not in source or b"\0" in source:
        return ()
    return tuple(_in_comments(decode(source)))


def _in_comments(text: str) -> Iterator[Suppression]:
    readline = io.StringIO(text, newline="").readline
    try:
        for token in tokenize.generate_tokens(readline):
            if token.type == tokenize.COMMENT:
                row, column = token.start
                yield from _in_comment(token.string, row, column + 1)
    except (tokenize.TokenError, SyntaxError, ValueError):
        return  # the compiler reports a file that is not Python


def _in_comment(comment: str, row: int, column: int) -> Iterator[Suppression]:
    for match in _COMMENT.finditer(comment):
        codes = list(_CODE.finditer(match[1] or ""))
        offset = column + (match.start(1) if codes else 0)
        for code in codes:
            start, end = offset + code.start(), offset + code.end()
            yield Suppression(code[0], Span(row, start, row, end))
        if not codes:
            yield Suppression(None, Span(row, column + match.start(), row, column + match.end()))


def suppress(
    diagnostics: Iterable[Diagnostic],
    suppressions: tuple[Suppression, ...],
    filename: str,
    can_silence: Callable[[Diagnostic], bool],
) -> tuple[Diagnostic, ...]:
    """Drop the silenced findings, and add a VJP009 for each suppression that fits none.

    Args:
        diagnostics: the findings of one file.
        suppressions: the suppressions of that file.
        filename: the file as the user named it.
        can_silence: tells the findings that a suppression can silence from those that stay.
    """
    used: set[Suppression] = set()
    kept = []
    for item in diagnostics:
        hits = [each for each in suppressions if (each.code, each.span.row) == _line(item)]
        used.update(hits)
        if not (hits and can_silence(item)):
            kept.append(item)
    unused = [_unused(each, filename) for each in suppressions if each not in used]
    return (*kept, *unused)


def _line(item: Diagnostic) -> tuple[str, int]:
    return item.code, item.span.row


def _unused(item: Suppression, filename: str) -> Diagnostic:
    if item.code is None:
        message = "this suppression names no code, and silences nothing"
        help_ = "name what to silence, as in `# vjpgen: ignore[VJP302]`"
    else:
        message = f"nothing on this line is a {item.code}, so this suppression silences nothing"
        help_ = "remove it"
    return Diagnostic("VJP009", message, filename, item.span, help_)
