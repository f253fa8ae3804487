"""Import an annotated source and the module generated from it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from vjpgen.compiler import Options, Siblings, compile_source

SOURCES = Path(__file__).parent / "sources"


def _load(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def pair(tmp_path_factory):
    """Give `plain` and `lifted`: a source of this folder, and what vjpgen makes of it.

    A name may lead into a folder below: `pair("patterns/attention")`.
    """
    built: dict[str, SimpleNamespace] = {}

    def get(name: str) -> SimpleNamespace:
        if name not in built:
            path = SOURCES / f"{name}.py"
            options = Options(origin=path.name)
            result = compile_source(
                path.read_bytes(), path.name, options=options, siblings=Siblings()
            )
            assert result.output is not None, result.diagnostics
            target = tmp_path_factory.mktemp("generated") / f"{path.stem}_vjp.py"
            target.write_bytes(result.output)
            words = name.replace("/", "_")
            plain = _load(path, f"vjpgen_plain_{words}")
            built[name] = SimpleNamespace(
                plain=plain, lifted=_load(target, f"vjpgen_lifted_{words}"), text=result.output
            )
        return built[name]

    return get
