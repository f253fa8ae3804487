"""What can go wrong when annotated modules are imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vjpgen.diagnostics import Diagnostic


class CompileError(Exception):
    """An annotated module has errors; the text shows each finding with its excerpt.

    It is no `ImportError`, so that code with a fallback for a missing module does not hide it.

    Args:
        text: the findings as a person reads them.
        path: the module's file.
        diagnostics: the findings.
    """

    def __init__(self, text: str, path: str, diagnostics: tuple[Diagnostic, ...] = ()) -> None:
        super().__init__(text)
        self.path = path
        self.diagnostics = diagnostics

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (str(self), self.path, self.diagnostics)


class PlainImportWarning(UserWarning):
    """An annotated module takes part without its rules: with plain gradients."""
