"""Import the situations: each file as it stands, and as vjpgen compiles it."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

from tests.comparison.outcomes import Refused
from tests.comparison.situation import Situation
from tests.compiled import compiled
from vjpgen.compiler import Options, compile_source

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
    return compiled(FOLDER / f"{group}.py", f"tests.comparison.situations.{group}_vjp")


def refused(source: str) -> None:
    """Compile a source that vjpgen should refuse; raise `Refused` with the code where it does."""
    result = compile_source(source.encode(), "model.py", options=Options(origin="model.py"))
    if result.output is None:
        raise Refused(", ".join(dict.fromkeys(d.code for d in result.diagnostics)))
