"""What vjpgen says about a source file: one finding is one `Diagnostic`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Span:
    """A stretch of source text; rows and columns from 1, columns in characters, the end exclusive."""

    row: int
    column: int
    end_row: int
    end_column: int


@dataclass(frozen=True)
class Diagnostic:
    """One finding.

    Args:
        code: its code in the catalogue, as "VJP101".
        message: one line that says what is wrong here.
        filename: the file as the user named it.
        span: where.
        help: what to write instead, one line; None where the message says it.
    """

    code: str
    message: str
    filename: str
    span: Span
    help: str | None = None
