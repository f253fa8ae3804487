"""A folder of modules to import with and without the hook."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import vjpgen
from vjpgen.cli import group
from vjpgen.importing import ImportHook

RULE = """\
def scale_bwd(vjp_fn, y_t):
    (x_t,) = vjp_fn(y_t)
    return (2 * x_t,)


"""
GOOD = RULE + "# custom-vjp: bwd=scale_bwd\ndef scale(x):\n    return 3 * x\n"
BAD = GOOD.replace("bwd=scale_bwd\n", "bwd=scale_bwdd\n")
WARNS = GOOD.replace("def scale(x):", "def scale(x):  # vjpgen: ignore[VJP202]")


@dataclass(frozen=True)
class Folder:
    """A folder on `sys.path`."""

    path: Path

    def write(self, name: str, text: str | bytes = GOOD) -> Path:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        importlib.invalidate_caches()
        return file

    def cached(self) -> list[str]:
        """What is kept of compiled modules."""
        return sorted(file.name for file in self.path.rglob("*vjpgen*.pyc"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    """A project without hooks, whose modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(sys, "pycache_prefix", None)
    (tmp_path / "pyproject.toml").write_text("")
    finders, modules = list(sys.meta_path), set(sys.modules)
    yield Folder(tmp_path)
    sys.meta_path[:] = finders
    for name in sorted(set(sys.modules) - modules, reverse=True):  # the inner ones first
        file = getattr(sys.modules[name], "__file__", None) or ""
        paths = [*getattr(sys.modules[name], "__path__", ()), file]
        if any(path.startswith(str(tmp_path)) for path in paths):
            del sys.modules[name]


Hooked = Callable[..., ModuleType]


@pytest.fixture
def hooked(folder: Folder) -> Hooked:
    """Import a module afresh under a hook for its package."""

    def call(name: str, *packages: str, **options: Any) -> ModuleType:
        for known in [each for each in sys.modules if each.partition(".")[0] in name.split(".")]:
            del sys.modules[known]
        with vjpgen.install_import_hook(*(packages or (name,)), **options):
            return importlib.import_module(name)

    return call


def built(name: str) -> ModuleType:
    """Build the folder and import a module's generated sibling."""
    group(["build", "-q", "."], standalone_mode=False)
    importlib.invalidate_caches()
    return importlib.import_module(f"{name}_vjp")


def hooks() -> list[ImportHook]:
    return [finder for finder in sys.meta_path if isinstance(finder, ImportHook)]
