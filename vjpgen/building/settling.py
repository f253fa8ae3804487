"""Which findings about a source are shown."""

from __future__ import annotations

from collections.abc import Iterator

from vjpgen.building.projects import Project
from vjpgen.compiler import Result
from vjpgen.diagnostics import Diagnostic
from vjpgen.diagnostics.suppressions import read_suppressions, suppress


def settled(
    result: Result, data: bytes, path: str, shown: str, project: Project
) -> Iterator[Diagnostic]:
    """Yield the findings that neither a comment nor the configuration silences.

    An error that leaves no module to write cannot be silenced: the file would be passed over.

    Args:
        result: what compiling the source gave.
        data: the source's bytes.
        path: its absolute path.
        shown: its path as the user would write it.
        project: the project that it belongs to.
    """
    suppressions = read_suppressions(data) if result != Result() else ()

    def can_silence(item: Diagnostic) -> bool:
        return result.output is not None or not item.is_error

    selection = project.config.selection
    patterns = project.patterns_of(path)
    found, complete = result.diagnostics, result.output is not None
    for item in suppress(found, suppressions, shown, can_silence, complete=complete):
        if not can_silence(item) or selection.shows_in(item.code, patterns):
            yield item
