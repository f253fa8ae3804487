"""The family VJP4xx: the modules of a project."""

from __future__ import annotations

from vjpgen.diagnostics import Severity
from vjpgen.diagnostics.catalogue.entry import Entry

_LAYERS = """\
def scale_bwd(vjp_fn, y_t):
    return vjp_fn(2 * y_t)


# custom-vjp: bwd=scale_bwd
def scale(x):
    return 3 * x
"""

_TRAIN = """\
import jax

from .layers{suffix} import scale

gradient = jax.grad(scale)
"""

_MIRRORED = """\
[tool.vjpgen]
out-dir = "build"
"""

ENTRIES = (
    Entry(
        "VJP401",
        "an annotated `__init__.py` cannot have a sibling",
        "The generated module stands beside its source under another name, but a package has one "
        "`__init__.py`: `__init___vjp.py` would be a module of its own inside the package. Move "
        "the annotated functions into a module of the package and import them from there. Or "
        "build with `--out-dir`, which mirrors the package under its own names.",
        bad={"pkg/__init__.py": _LAYERS},
        good={
            "pkg/__init__.py": "from .layers_vjp import scale as scale\n",
            "pkg/layers.py": _LAYERS,
        },
    ),
    Entry(
        "VJP402",
        "a module that is not annotated imports an annotated one",
        "Only annotated modules are generated, and only their imports are redirected. Whoever "
        "imports the plain module gets the plain functions through it, with ordinary gradients. "
        "Import the generated module there. An import for type checkers alone is no finding, "
        "and no generated module needs this: what an `__init__.py` hands on from an annotated "
        "module is redirected in there.",
        bad={"pkg/layers.py": _LAYERS, "pkg/train.py": _TRAIN.format(suffix="")},
        good={"pkg/layers.py": _LAYERS, "pkg/train.py": _TRAIN.format(suffix="_vjp")},
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
        bad={
            "pyproject.toml": _MIRRORED,
            "src/pkg/__init__.py": "",
            "src/pkg/layers.py": _LAYERS,
            "lib/pkg/__init__.py": "",
            "lib/pkg/layers.py": _LAYERS,
        },
        good={
            "pyproject.toml": _MIRRORED,
            "src/pkg/__init__.py": "",
            "src/pkg/layers.py": _LAYERS,
            "lib/layers/__init__.py": "",
            "lib/layers/layers.py": _LAYERS,
        },
    ),
)
