"""Modules as vjpgen compiles them, in memory."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

from vjpgen.compiler import Options, Siblings, compile_source


def compiled(path: Path, name: str) -> ModuleType:
    """Compile an annotated file and import the result, once.

    Args:
        path: the file.
        name: the name of the module that is made.
    """
    if name not in sys.modules:
        options = Options(origin=path.name)
        result = compile_source(path.read_bytes(), path.name, options=options, siblings=Siblings())
        assert result.output is not None, result.diagnostics
        module = ModuleType(name)
        module.__file__ = str(path.with_name(f"{path.stem}_vjp.py"))
        sys.modules[name] = module
        exec(compile(result.output, module.__file__, "exec"), vars(module))
    return sys.modules[name]
