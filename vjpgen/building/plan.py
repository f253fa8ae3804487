"""What to compile, under which options, and where each result goes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Container, Iterable
from dataclasses import dataclass, field

from vjpgen.building.compiling import Task
from vjpgen.building.gather import Source
from vjpgen.building.layout import Layout, Layouts, Place
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
        place: where the generated module goes.
        advice: how to make room where a file of the user's stands.
        options: what the compiler is told.
        siblings: the annotated modules whose imports are redirected.
        obstacles: why the module cannot be written, whatever the compiler says.
    """

    file: Found
    data: bytes = field(repr=False)
    place: Place
    advice: str
    options: Options
    siblings: Siblings = field(repr=False)
    obstacles: tuple[Diagnostic, ...] = ()

    @property
    def task(self) -> Task:
        """All that compiling depends on."""
        return Task(self.data, self.file.shown, self.options, self.siblings)


def plan(
    sources: Iterable[Source],
    packages: Packages,
    neighbourhoods: Neighbourhoods,
    layouts: Layouts,
    taken: Iterable[str] = (),
) -> tuple[Job, ...]:
    """Return one job for each source, in the order of their paths.

    Args:
        sources: the sources.
        packages: finds the root of a package.
        neighbourhoods: finds the annotated modules that a source can import.
        layouts: finds where a project's modules go.
        taken: the targets of places where files will be written besides.

    Raises:
        UsageError: where the modules of a project cannot go where they should.
    """
    found = sorted(sources, key=lambda source: source.file.path)
    placed = [(source, layouts.of(source.file.project)) for source in found]
    targets = Counter(taken)
    targets.update(
        layout.place(source.file).target for source, layout in placed if _writes(source, layout)
    )
    shared = {each for each, count in targets.items() if count > 1}
    return tuple(
        _job(source, layout, packages, neighbourhoods, shared) for source, layout in placed
    )


def clash(file: Found, place: Place) -> Diagnostic:
    """Report a source whose output another one would write, too."""
    message = f"another source would also write {place.shown}"
    apart = ", or build each into a folder of its own" if place.real is not None else ""
    return Diagnostic("VJP403", message, file.shown, WHOLE_FILE, f"rename one of the two{apart}")


def _writes(source: Source, layout: Layout) -> bool:
    return source.is_annotated and (layout.takes_init or not _is_init(source.file))


def _is_init(file: Found) -> bool:
    return os.path.basename(file.path) == "__init__.py"


def _job(
    source: Source,
    layout: Layout,
    packages: Packages,
    neighbourhoods: Neighbourhoods,
    shared: Container[str],
) -> Job:
    file, config = source.file, source.file.project.config
    return Job(
        file=file,
        data=source.data,
        place=layout.place(file),
        advice=layout.advice,
        options=Options(packages.origin(file.path), config.suffix, config.missing),
        siblings=neighbourhoods.seen_from(file) if layout.redirects else Siblings(),
        obstacles=tuple(_obstacles(source, layout, shared)),
    )


def _obstacles(source: Source, layout: Layout, shared: Container[str]) -> Iterable[Diagnostic]:
    shown, place = source.file.shown, layout.place(source.file)
    if not source.is_annotated:
        return
    if not _writes(source, layout):
        message = "an annotated `__init__.py` cannot have a generated module beside it"
        help_ = (
            "move the annotated functions into a module of the package, or build with `--out-dir`"
        )
        yield Diagnostic("VJP401", message, shown, WHOLE_FILE, help_)
    elif place.target in shared:
        yield clash(source.file, place)
