"""The comments of a file, found by the tokenizer so that no annotation is passed over.

# custom-vjp: bwd=b          an annotation
# custom_vjp: bwd=b          looks like one, and is reported as such
"# custom-vjp: bwd=b"        a string; no concern of ours
"""

from __future__ import annotations

import io
import re
import tokenize
from dataclasses import dataclass

from vjpgen.compiler.source import Position, Source, decode

ANNOTATION = re.compile(r"#[ \t]+custom-vjp:")

_LOOKS_ALIKE = re.compile(
    r"""\#{1,3}[!:\ \t]*
        (?: custom-vjp (?: \s*: | \s*$ | (?:[\s,]+|\s*[;=(]\s*)[A-Za-z_]\w*\s*=(?!=) )
          | custom[_\ -]?vjp (?: \s*:\s*$ | (?:\s*:\s*|\s+)[A-Za-z_]\w*\s*=(?!=) )
        )""",
    re.IGNORECASE | re.VERBOSE,
)
_INSIDE_COMMENT = re.compile(r"\s#[ \t]*custom[-_]vjp:\s*[A-Za-z_]\w*\s*=(?!=)")
_ALIKE_BYTES = re.compile(
    _LOOKS_ALIKE.pattern.replace("$", r"\r?$").encode(),
    re.IGNORECASE | re.VERBOSE | re.MULTILINE,
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


@dataclass(frozen=True)
class Tokens:
    """The comments of a file in its order, and every name that it uses."""

    comments: tuple[Comment, ...]
    names: frozenset[str]


def read_tokens(source: Source) -> Tokens:
    """Tokenize a file that Python's parser has accepted."""
    comments: list[Comment] = []
    names: set[str] = set()
    text = "".join(line.rstrip("\r\n") + "\n" for line in source.lines)
    for kind, string, (row, column), _, _ in tokenize.generate_tokens(io.StringIO(text).readline):
        if kind == tokenize.NAME:
            names.add(string)
        elif kind == tokenize.COMMENT:
            own_line = not source.lines[row - 1][:column].strip()
            comments.append(Comment(row, column, string, own_line))
    return Tokens(tuple(comments), frozenset(names))


def has_annotation(data: bytes) -> bool:
    """Whether a file may hold an annotation or a comment that looks like one.

    A cheap look at the bytes; a file that answers no is never parsed.
    """
    if b"custom-vjp" in data:
        return True
    return _VJP.search(data) is not None and _ALIKE_BYTES.search(data) is not None


def is_annotated(data: bytes) -> bool:
    """Whether a file truly holds an annotation, in a comment and not merely in a string.

    A file that does not tokenize counts as annotated where its bytes look so.
    """
    if b"custom-vjp:" not in data:
        return False
    try:
        return any(comment.is_annotation for comment in read_tokens(decode(data, "")).comments)
    except (SyntaxError, UnicodeDecodeError, tokenize.TokenError):
        return True
