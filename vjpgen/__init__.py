"""vjpgen: a gradient of your own for JAX and Flax, from a comment.

The names are bound when they are first used, so that importing vjpgen imports neither jax nor
libcst.

pytest would rewrite the assertions of a package that has a plugin, and warn of one that was
imported before, as under `vjpgen run -m pytest`: PYTEST_DONT_REWRITE.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vjpgen.importing import install_import_hook
    from vjpgen.runtime.drop_in import custom_vjp, vjp
    from vjpgen.runtime.errors import DroppedTangentWarning, TangentError
    from vjpgen.runtime.lifting import primal
    from vjpgen.runtime.snapshots import snapshot

__version__ = "0.1.0"

_HOMES = {
    "DroppedTangentWarning": "vjpgen.runtime.errors",
    "TangentError": "vjpgen.runtime.errors",
    "custom_vjp": "vjpgen.runtime.drop_in",
    "install_import_hook": "vjpgen.importing",
    "primal": "vjpgen.runtime.lifting",
    "snapshot": "vjpgen.runtime.snapshots",
    "vjp": "vjpgen.runtime.drop_in",
}
_MODULES = ("importing", "runtime", "testing")

__all__ = [
    "DroppedTangentWarning",
    "TangentError",
    "custom_vjp",
    "install_import_hook",
    "primal",
    "snapshot",
    "vjp",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return importlib.import_module(f"vjpgen.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, *_MODULES])
