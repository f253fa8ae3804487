"""The shape of one entry of the catalogue."""

from __future__ import annotations

from dataclasses import dataclass

from vjpgen.diagnostics import Severity


@dataclass(frozen=True)
class Entry:
    """All that is known about one code.

    Args:
        code: the code, as "VJP101".
        title: the finding in a few words.
        explanation: what it means and why it matters, in sentences.
        bad: a whole source file in which the finding occurs; empty where no single file shows it.
        good: the same file mended.
        severity: an error fails the command, a warning and a note do not.
        default: whether the finding is shown unless the configuration says otherwise.
    """

    code: str
    title: str
    explanation: str
    bad: str = ""
    good: str = ""
    severity: Severity = Severity.ERROR
    default: bool = True
