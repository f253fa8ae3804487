"""Processes that a running program starts with `multiprocessing`: they compile what it compiles.

A spawned process imports the program's main module again, under another name. What it is told to
prepare itself with carries a `Start` along, which installs the hook when it is unpickled there.
Forked processes have the hook anyway.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from types import CodeType, ModuleType
from typing import Any

from vjpgen.importing.hook import ImportHook
from vjpgen.importing.loader import CompilingLoader, code_of, is_to_compile
from vjpgen.importing.reach import Reach
from vjpgen.importing.settings import Settings

_MAIN = "__vjpgen_main__"


@dataclass(frozen=True)
class Start:
    """How a program was started.

    Args:
        reach: which modules are compiled.
        settings: how.
        script: the script's absolute path; None where a module is run.
    """

    reach: Reach
    settings: Settings
    script: str | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrive, (self.reach, self.settings, self.script)

    def install(self) -> None:
        """Have annotated modules compiled in this process, and in those that it spawns."""
        ImportHook(self.settings, lambda name: True, self.reach.covers).install()
        self._accompany_children()

    def _accompany_children(self) -> None:
        from multiprocessing import spawn

        prepare = spawn.get_preparation_data

        def get_preparation_data(name: str) -> dict[str, Any]:
            data: dict[str, Any] = {"vjpgen": self, **prepare(name)}
            if self.script is not None and data.pop("init_main_from_path", None):
                data["init_main_from_name"] = _MAIN
            return data

        spawn.get_preparation_data = get_preparation_data


class ScriptLoader(CompilingLoader):
    """Loads a script; as Python does, it keeps no bytecode of a plain one."""

    def __init__(self, name: str, path: str, settings: Settings) -> None:
        super().__init__(name, path)
        self.settings = settings

    def get_code(self, fullname: str) -> CodeType:
        """Return the script's code."""
        path = self.get_filename(fullname)
        data = self.get_data(path)
        if is_to_compile(data):
            return code_of(path, data, self.settings, named=True)
        return compile(data, path, "exec", dont_inherit=True)


@dataclass(frozen=True)
class _MainFinder:
    """Finds the script by the name that spawned processes import it by."""

    start: Start

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        script = self.start.script
        if name != _MAIN or script is None:
            return None
        loader = ScriptLoader(name, script, self.start.settings)
        return spec_from_file_location(name, script, loader=loader)


def _arrive(reach: Reach, settings: Settings, script: str | None) -> Start:
    """Install the hook in a spawned process."""
    start = Start(reach, settings, script)
    start.install()
    sys.meta_path.insert(0, _MainFinder(start))
    return start
