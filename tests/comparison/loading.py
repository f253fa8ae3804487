"""Import the situations: each file as it stands, and as vjpgen compiles it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

from tests.comparison.outcomes import Refused
from tests.comparison.situation import Situation
from vjpgen.compiler import Options, Siblings, compile_source

FOLDER = Path(__file__).parent / "situations"
# The order of the table, and the words for each group.
GROUPS = {
    "calls": "calls",
    "modules": "modules",
    "captures": "captured values",
    "state": "state",
    "tangents": "tangents",
    "transforms": "transforms",
}


def situations(lifted: bool = False) -> dict[str, type[Situation]]:
    """Return every situation by its class's name.

    Args:
        lifted: whether the files are compiled by vjpgen; without that no annotation has an effect.
    """
    found: dict[str, type[Situation]] = {}
    for group in GROUPS:
        module = _compiled(group) if lifted else _plain(group)
        for name, value in vars(module).items():
            own = getattr(value, "__module__", None) == module.__name__
            if own and isinstance(value, type) and issubclass(value, Situation):
                found[name] = value
    return found


def _plain(group: str) -> ModuleType:
    return importlib.import_module(f"tests.comparison.situations.{group}")


def _compiled(group: str) -> ModuleType:
    path = FOLDER / f"{group}.py"
    name = f"tests.comparison.situations.{group}_vjp"
    if name not in sys.modules:
        options = Options(origin=path.name)
        result = compile_source(path.read_bytes(), path.name, options=options, siblings=Siblings())
        assert result.output is not None, result.diagnostics
        module = ModuleType(name)
        module.__file__ = str(path.with_name(f"{group}_vjp.py"))
        sys.modules[name] = module
        exec(compile(result.output, module.__file__, "exec"), vars(module))
    return sys.modules[name]


def refused(source: str) -> None:
    """Compile a source that vjpgen should refuse; raise `Refused` with the code where it does."""
    result = compile_source(source.encode(), "model.py", options=Options(origin="model.py"))
    if result.output is None:
        raise Refused(", ".join(dict.fromkeys(d.code for d in result.diagnostics)))
