"""VJP402 over files without annotation, which are read for nothing else."""

from __future__ import annotations

from collections.abc import Iterator

from vjpgen.building.files import read
from vjpgen.building.gather import Gathered
from vjpgen.building.projects import Project
from vjpgen.building.settling import settled
from vjpgen.building.siblings import Neighbourhoods
from vjpgen.building.walk import Found
from vjpgen.compiler import Result, plain_imports
from vjpgen.diagnostics import Diagnostic

_CODE = "VJP402"


def plain_imports_in(gathered: Gathered, neighbourhoods: Neighbourhoods) -> Iterator[Diagnostic]:
    """Yield what is to be said of the files that are not annotated, where a project asks for it.

    Args:
        gathered: what lies under the paths.
        neighbourhoods: the annotated modules, as each file imports them.
    """
    seen = {each.file.key for each in (*gathered.sources, *gathered.generated)}
    for file in _files(gathered):
        if file.key not in seen and not file.ignored:
            seen.add(file.key)
            yield from _of_file(file, neighbourhoods)


def is_wanted(project: Project) -> bool:
    """Whether a project asks for this, and generated modules lie beside their sources there."""
    return project.config.selection.shows(_CODE) and project.out is None


def _files(gathered: Gathered) -> Iterator[Found]:
    yield from (file for file in gathered.named if is_wanted(file.project))
    for folder in gathered.folders:
        if is_wanted(folder.project):
            yield from folder.files()


def _of_file(file: Found, neighbourhoods: Neighbourhoods) -> Iterator[Diagnostic]:
    try:
        data = read(file.path)
    except OSError:  # `gather` has reported it
        return
    yield from noted(file, data, neighbourhoods)


def noted(file: Found, data: bytes, neighbourhoods: Neighbourhoods) -> Iterator[Diagnostic]:
    """Yield what is to be said of one file that is not annotated, whose bytes are these."""
    suffix = file.project.config.suffix
    found = plain_imports(data, file.shown, neighbourhoods.seen_from(file), suffix)
    result = Result(output=b"", diagnostics=found)
    for item in settled(result, data, file.path, file.shown, file.project) if found else ():
        if item.code == _CODE:
            yield item
