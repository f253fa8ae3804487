"""Import an annotated source of the runtime's tests, and the module generated from it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

from vjpgen.compiler import Options, Siblings, compile_source

SOURCES = Path(__file__).parent / "sources"


def load(path: Path, name: str) -> ModuleType:
    """Import a file as a module of this name."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def load_pair(name: str, folder: Path) -> SimpleNamespace:
    """Give `plain` and `lifted`, the source `name` and what vjpgen makes of it, and its `text`.

    Args:
        name: a source below `sources`, without its ending.
        folder: where to write the generated module.
    """
    path = SOURCES / f"{name}.py"
    options = Options(origin=path.name)
    result = compile_source(path.read_bytes(), path.name, options=options, siblings=Siblings())
    assert result.output is not None, result.diagnostics
    target = folder / f"{path.stem}_vjp.py"
    target.write_bytes(result.output)
    words = name.replace("/", "_")
    plain = load(path, f"vjpgen_plain_{words}")
    lifted = load(target, f"vjpgen_lifted_{words}")
    return SimpleNamespace(plain=plain, lifted=lifted, text=result.output)
