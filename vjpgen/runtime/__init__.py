"""The runtime: all that generated modules import.

`from vjpgen.runtime import interface_1` is the line in a generated module that binds it to this
runtime; a runtime with another interface answers with one error that says what to run.
"""

from __future__ import annotations

import importlib
from typing import Any

from vjpgen.runtime.errors import DroppedTangentWarning, InterfaceError, TangentError

# The number that generated modules are built for; it grows when they would no longer run.
INTERFACE = 1

__all__ = ["INTERFACE", "DroppedTangentWarning", "InterfaceError", "TangentError"]


def __getattr__(name: str) -> Any:
    if name == f"interface_{INTERFACE}":
        return importlib.import_module(f"vjpgen.runtime.{name}")
    if name == "sharing":
        return importlib.import_module("vjpgen.runtime.sharing")
    if name.startswith("interface_"):
        raise InterfaceError(
            f"this module was generated for runtime interface {name.removeprefix('interface_')}, "
            f"but the installed vjpgen has interface {INTERFACE}; run: vjpgen build"
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
