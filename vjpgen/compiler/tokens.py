"""The comments of a file, found by the tokenizer so that no annotation is passed over.

# custom-vjp: bwd=b          an annotation
# custom_vjp: bwd=b          looks like one, and is reported as such
"# custom-vjp: bwd=b"        a string; no concern of ours
"""

from __future__ import annotations

import io
import re
import sys
import tokenize
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from vjpgen.compiler.source import Position, Source, decode

ANNOTATION = re.compile(r"#[ \t]+custom-vjp:")

_LOOKS_ALIKE = re.compile(
    r"""\#{1,3}[!:\ \t]*
        (?: custom-vjp (?: \s*: | \s*$ | (?:[\s,]+|\s*[;=(]\s*)[A-Za-z_]\w*\s*=(?!=) )
          | custom[_\ -]?vjp (?: \s*:\s*$ | (?:\s*:\s*|\s+)[A-Za-z_]\w*\s*=(?!=) )
          | custom[_\ -]?[vjp]{3}\s*:\s*[bf]wd\s*=(?!=)
        )""",
    re.IGNORECASE | re.VERBOSE,
)
_INSIDE_COMMENT = re.compile(r"\s#[ \t]*custom[-_]vjp:\s*[A-Za-z_]\w*\s*=(?!=)")
_ALIKE_BYTES = re.compile(
    _LOOKS_ALIKE.pattern.replace("$", r"\r?$").encode(),
    re.IGNORECASE | re.VERBOSE | re.MULTILINE,
)
_STRINGS_NEST = sys.version_info >= (3, 12)
"""Whether an f-string may hold its own quotes and comments; then only the tokenizer can tell."""

_STRING_OR_COMMENT = re.compile(
    r"""\#[^\r\n]*
      | \"{3} (?:[^"\\]|\\.|"(?!""))*+ \"{3}
      | '{3} (?:[^'\\]|\\.|'(?!''))*+ '{3}
      | " (?:[^"\\\r\n]|\\\r\n|\\.)*+ "
      | ' (?:[^'\\\r\n]|\\\r\n|\\.)*+ '
      | ["']
    """,
    re.VERBOSE | re.DOTALL,
)
_VJP = re.compile(rb"custom(?:-vjp|[_ ]?vjp[ \t\r]*[:=\n\w])", re.IGNORECASE)


@dataclass(frozen=True)
class Comment:
    """One comment: its place, its text from the `#` on, and whether it has the line to itself."""

    row: int
    column: int
    text: str
    own_line: bool

    @property
    def start(self) -> Position:
        return self.row, self.column

    @property
    def end(self) -> Position:
        return self.row, self.column + len(self.text)

    @property
    def is_annotation(self) -> bool:
        """Whether this is (a line of) an annotation."""
        return ANNOTATION.match(self.text) is not None

    @property
    def looks_like_annotation(self) -> bool:
        """Whether this was probably meant as an annotation but is none."""
        if self.is_annotation:
            return False
        inside = not self.own_line and _INSIDE_COMMENT.search(self.text)
        return bool(inside or _LOOKS_ALIKE.match(self.text))


def read_comments(source: Source) -> tuple[Comment, ...]:
    """Find every comment of a file, in its order.

    `SyntaxError` or `tokenize.TokenError` where the file cannot be tokenized, which is not so for
    one that Python's parser accepts.
    """
    found = _tokenized(source) if _STRINGS_NEST else _scanned(source)
    return tuple(
        Comment(row, column, text, not source.lines[row - 1][:column].strip())
        for row, column, text in found
    )


def _tokenized(source: Source) -> Iterator[tuple[int, int, str]]:
    """The comments as the tokenizer finds them."""
    text = "".join(line.rstrip("\r\n") + "\n" for line in source.lines)
    for kind, string, (row, column), _, _ in tokenize.generate_tokens(io.StringIO(text).readline):
        if kind == tokenize.COMMENT:
            yield row, column, string


def _scanned(source: Source) -> Iterator[tuple[int, int, str]]:
    """The same: outside of strings and comments Python has neither a quote nor a `#`."""
    for match in _STRING_OR_COMMENT.finditer(source.text):
        text = match.group()
        if text[0] == "#":
            row = bisect_right(source.starts, match.start())
            yield row, match.start() - source.starts[row - 1], text
        elif len(text) == 1:
            raise SyntaxError("a string does not end")


def has_annotation(data: bytes) -> bool:
    """Whether a file may hold an annotation or a comment that looks like one.

    A cheap look at the bytes; a file that answers no is never parsed.
    """
    if b"custom-vjp" in data:
        return True
    if b"vjp" not in data.lower():  # twenty times as fast as the expressions
        return False
    return _VJP.search(data) is not None and _ALIKE_BYTES.search(data) is not None


def is_annotated(data: bytes) -> bool:
    """Whether a file truly holds an annotation, in a comment and not merely in a string.

    A file that does not tokenize counts as annotated where its bytes look so.
    """
    if b"custom-vjp:" not in data:
        return False
    try:
        return any(comment.is_annotation for comment in read_comments(decode(data, "")))
    except (SyntaxError, UnicodeDecodeError, tokenize.TokenError):
        return True
