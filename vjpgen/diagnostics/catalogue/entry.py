"""The shape of one entry of the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vjpgen.diagnostics import Severity

Example = str | Mapping[str, str]

_NAME = "model.py"


@dataclass(frozen=True)
class Entry:
    """All that is known about one code.

    Args:
        code: the code, as "VJP101".
        title: the finding in a few words.
        explanation: what it means and why it matters, in sentences.
        bad: what has the finding: a whole source file, or several by name; empty where
            no file can show it.
        good: the same mended.
        severity: an error fails the command, a warning and a note do not.
        default: whether the finding is shown unless the configuration says otherwise.
    """

    code: str
    title: str
    explanation: str
    bad: Example = ""
    good: Example = ""
    severity: Severity = Severity.ERROR
    default: bool = True


def files_of(example: Example) -> dict[str, str]:
    """Return the files of an example by name; one that stands alone gets a name, too."""
    if isinstance(example, str):
        return {_NAME: example} if example else {}
    return dict(example)
