"""What to compile, under which options, and where each result goes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from vjpgen.building.gather import Source, output_name
from vjpgen.building.projects import Packages
from vjpgen.building.siblings import Neighbourhoods
from vjpgen.building.walk import Found
from vjpgen.compiler import Options, Siblings
from vjpgen.diagnostics import WHOLE_FILE, Diagnostic


@dataclass(frozen=True)
class Job:
    """One source on its way to its generated module.

    Args:
        file: the source file.
        data: its bytes.
        output: the generated module's absolute path.
        shown: that path as the user would write it.
        options: what the compiler is told.
        siblings: the annotated modules whose imports are redirected.
        obstacles: why the module cannot be written, whatever the compiler says.
    """

    file: Found
    data: bytes = field(repr=False)
    output: str
    shown: str
    options: Options
    siblings: Siblings = field(repr=False)
    obstacles: tuple[Diagnostic, ...] = ()


def plan(
    sources: Iterable[Source], packages: Packages, neighbourhoods: Neighbourhoods
) -> tuple[Job, ...]:
    """Return one job for each source, in the order of their paths."""
    found = sorted(sources, key=lambda source: source.file.path)
    targets = Counter(_target(source.file) for source in found if _writes(source))
    return tuple(
        _job(source, packages, neighbourhoods, is_shared=targets[_target(source.file)] > 1)
        for source in found
    )


def output_path(file: Found) -> str:
    """Return the absolute path of the module that is generated from a source."""
    return os.path.join(os.path.dirname(file.path), output_name(file))


def _target(file: Found) -> str:
    """The file that would be written in the end, links and letter case seen through."""
    return os.path.normcase(os.path.realpath(output_path(file)))


def _writes(source: Source) -> bool:
    return not _is_init(source.file) and source.is_annotated


def _is_init(file: Found) -> bool:
    return os.path.basename(file.path) == "__init__.py"


def _job(
    source: Source, packages: Packages, neighbourhoods: Neighbourhoods, *, is_shared: bool
) -> Job:
    file, config = source.file, source.file.project.config
    options = Options(packages.origin(file.path), config.suffix, config.missing)
    return Job(
        file=file,
        data=source.data,
        output=output_path(file),
        shown=os.path.join(os.path.dirname(file.shown), output_name(file)),
        options=options,
        siblings=neighbourhoods.seen_from(file),
        obstacles=tuple(_obstacles(source, is_shared)),
    )


def _obstacles(source: Source, is_shared: bool) -> Iterable[Diagnostic]:
    shown = source.file.shown
    if _is_init(source.file) and source.is_annotated:
        message = "an annotated `__init__.py` cannot have a generated module beside it"
        help_ = "move the annotated functions into a module of the package"
        yield Diagnostic("VJP401", message, shown, WHOLE_FILE, help_)
    if is_shared and _writes(source):
        message = f"another source would also write {output_name(source.file)}"
        yield Diagnostic("VJP403", message, shown, WHOLE_FILE, "rename one of the two")
