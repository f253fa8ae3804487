"""Running a script or module as Python does, with the annotated modules of its project compiled."""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pkgutil import get_importer
from types import ModuleType, TracebackType
from typing import Any

from vjpgen.importing.children import ScriptLoader, Start
from vjpgen.importing.errors import CompileError
from vjpgen.importing.reach import reach_of
from vjpgen.importing.settings import Settings

_OURS = (os.path.join(os.path.dirname(__file__), ""), "<frozen importlib")
_RUNPY = ("<frozen runpy>", runpy.__file__)


@dataclass(frozen=True)
class Program:
    """What the command line asks to run.

    Args:
        target: a script, a folder or archive with a `__main__.py`, or a module's dotted name.
        is_module: whether it is a module's name.
        arguments: the program's own arguments.
        settings: how modules are compiled.
    """

    target: str
    is_module: bool
    arguments: tuple[str, ...]
    settings: Settings

    def run(self) -> None:
        """Run the program in this process, and end the process as Python would."""
        _guarded(self._run_module if self.is_module else self._run_path)

    def _run_module(self) -> None:
        sys.argv = ["-m", *self.arguments]
        folder = os.getcwd()
        _import_first_from(folder)
        _new_main()
        Start(reach_of(folder, self.target.partition(".")[0]), self.settings).install()
        _as_main(self.target, alter_argv=True)

    def _run_path(self) -> None:
        sys.argv = [self.target, *self.arguments]
        path = os.path.realpath(self.target)
        if get_importer(self.target) is None:
            self._run_script(os.path.join(os.getcwd(), self.target), os.path.dirname(path))
            return
        if sys.flags.safe_path:  # the folder or archive is itself what is run
            sys.path.insert(0, "")
        sys.path[0] = os.path.abspath(self.target)
        _new_main()
        folder = path if os.path.isdir(path) else os.path.dirname(path)
        Start(reach_of(folder, None), self.settings).install()
        _as_main("__main__", alter_argv=False)

    def _run_script(self, path: str, folder: str) -> None:
        _import_first_from(folder)
        Start(reach_of(folder, None), self.settings, path).install()
        main = _new_main()
        loader = ScriptLoader("__main__", path, self.settings)
        main.__dict__.update(__file__=path, __cached__=None, __loader__=loader)
        exec(loader.get_code("__main__"), main.__dict__)


def _import_first_from(folder: str) -> None:
    """Put the program's folder in the place of the command's, if Python puts one there at all."""
    if not sys.flags.safe_path:
        sys.path[0] = folder


def _new_main() -> ModuleType:
    """Put a new module in the place of the one that this process was started with."""
    main = ModuleType("__main__")
    main.__dict__.update(__builtins__=sys.modules["builtins"], __annotations__={})
    sys.modules["__main__"] = main
    return main


def _as_main(name: str, *, alter_argv: bool) -> None:
    """Run a module by what `python -m` itself calls."""
    run: Callable[..., Any] = runpy.__dict__["_run_module_as_main"]
    run(name, alter_argv=alter_argv)


def _guarded(run: Callable[[], None]) -> None:
    """Run, and on an exception end as Python would, without frames of ours in the traceback."""
    try:
        run()
        return
    except SystemExit:
        raise
    except BaseException as caught:
        error = caught
    _trim(error, set())
    if isinstance(error, CompileError) and not _has_started(error.__traceback__):
        sys.stderr.write(f"{error}\n")
        raise SystemExit(1 if error.diagnostics else 2)
    _report(error)
    raise SystemExit(130 if isinstance(error, KeyboardInterrupt) else 1)


def _report(error: BaseException) -> None:
    """Print a traceback the way that this process prints them."""
    sys.last_type, sys.last_value = type(error), error
    sys.last_traceback = error.__traceback__
    if sys.version_info >= (3, 12):
        sys.last_exc = error
    sys.excepthook(type(error), error, error.__traceback__)


def _trim(error: BaseException | None, seen: set[int]) -> None:
    """Take the frames of ours out of an exception's traceback, and out of those behind it."""
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        error.__traceback__ = _trimmed(error.__traceback__)
        _trim(error.__cause__, seen)
        error = error.__context__


def _trimmed(traceback: TracebackType | None) -> TracebackType | None:
    """The traceback without the frames that lead from vjpgen to the program and its modules."""
    kept: list[TracebackType] = []
    while traceback is not None:
        name = traceback.tb_frame.f_code.co_filename
        if name == __file__:  # whatever led here, be it `python -m` or the installed command
            kept.clear()
        elif not name.startswith(_OURS):
            kept.append(traceback)
        traceback = traceback.tb_next
    trimmed: TracebackType | None = None
    for each in reversed(kept):
        trimmed = TracebackType(trimmed, each.tb_frame, each.tb_lasti, each.tb_lineno)
    return trimmed


def _has_started(traceback: TracebackType | None) -> bool:
    """Whether the program's own code had begun to run."""
    while traceback is not None and traceback.tb_frame.f_code.co_filename in _RUNPY:
        traceback = traceback.tb_next
    return traceback is not None
