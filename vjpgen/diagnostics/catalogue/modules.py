"""The family VJP4xx: the modules of a project."""

from __future__ import annotations

from vjpgen.diagnostics import Severity
from vjpgen.diagnostics.catalogue.entry import Entry

ENTRIES = (
    Entry(
        "VJP401",
        "an annotated `__init__.py` cannot have a sibling",
        "The generated module stands beside its source under another name, but a package has one "
        "`__init__.py`: `__init___vjp.py` would be a module of its own inside the package. Move "
        "the annotated functions into a module of the package and import them from there. Or "
        "build with `--out-dir`, which mirrors the package under its own names.",
    ),
    Entry(
        "VJP402",
        "a module that is not annotated imports an annotated one",
        "Only annotated modules are generated, and only their imports are redirected. Whoever "
        "imports the plain module gets the plain functions through it, with ordinary gradients. "
        "Import the generated module there.",
        severity=Severity.NOTE,
        default=False,
    ),
    Entry(
        "VJP403",
        "two sources would write one output",
        "Two annotated sources have the same generated module, so that the second would replace "
        "the first. Neither is written. Rename one of them. With `--out-dir` this holds for every "
        "file: `src/pkg/a.py` and `lib/pkg/a.py` are both `pkg/a.py` there; build one of the two "
        "packages, or each into a folder of its own.",
    ),
)
