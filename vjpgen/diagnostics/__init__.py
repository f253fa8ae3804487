"""What vjpgen says about a source file: one finding is one `Diagnostic`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Severity(Enum):
    """How much a finding matters; an error makes the command fail."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, order=True)
class Span:
    """A stretch of source text: rows and columns count from 1, in characters, the end exclusive."""

    row: int
    column: int
    end_row: int
    end_column: int

    @property
    def rows(self) -> range:
        """The rows that it touches."""
        return range(self.row, self.end_row + 1)


WHOLE_FILE = Span(1, 1, 1, 1)


@dataclass(frozen=True)
class Diagnostic:
    """One finding.

    Args:
        code: its code in the catalogue, as "VJP101".
        message: one line that says what is wrong here.
        filename: the file as the user named it.
        span: where.
        help: what to write instead, one line; None where the message says it.
        annotation: the place of the annotation that it is about, where that is another one.
    """

    code: str
    message: str
    filename: str
    span: Span
    help: str | None = None
    annotation: Span | None = field(default=None, compare=False)

    @property
    def severity(self) -> Severity:
        """The severity that the catalogue gives to this code."""
        from vjpgen.diagnostics.catalogue import CATALOGUE

        return CATALOGUE[self.code].severity

    @property
    def is_error(self) -> bool:
        """Whether this finding makes the command fail."""
        return self.severity is Severity.ERROR

    @property
    def place(self) -> tuple[str, Span, str]:
        """The key that sorts findings as a reader meets them."""
        return self.filename, self.span, self.code
