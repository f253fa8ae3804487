"""Loaders that compile annotated modules."""

from __future__ import annotations

import copy
import os
import sys
from functools import cache
from importlib.machinery import SourceFileLoader
from types import CodeType
from typing import Any

from vjpgen.building.paths import package_root
from vjpgen.importing import caching
from vjpgen.importing.settings import Settings, configuration


def is_to_compile(data: bytes) -> bool:
    """Whether a source may hold an annotation; the compiler is loaded only to be sure."""
    if b"custom-vjp" in data:
        return True
    lower = data.lower()
    if b"custom" not in lower or b"vjp" not in lower:
        return False
    from vjpgen.compiler.tokens import has_annotation

    return has_annotation(data)


class Compiling:
    """What every loader here has beside what its base class does."""

    settings: Settings


class CompilingLoader(Compiling, SourceFileLoader):
    """Loads Python's own way, but for annotated modules, whose compiled code it keeps."""

    def get_code(self, fullname: str) -> CodeType | None:
        """Return a module's code."""
        path = self.get_filename(fullname)
        data = self.get_data(path)
        if not is_to_compile(data):
            return super().get_code(fullname)
        return code_of(path, data, self.settings, named=path == self.settings.named)


class _AroundAnother(Compiling, SourceFileLoader):
    """Goes in front of a loader that changes the code itself, as type checkers' hooks do.

    That loader is given the generated module in place of the source. It must not find bytecode
    that it kept of the source: without a time of change it neither looks for any nor keeps any.
    """

    def path_stats(self, path: str) -> Any:
        """Return when the source was changed and its size."""
        if is_to_compile(self.get_data(path)):
            raise OSError("the module is compiled anew")
        return super().path_stats(path)

    def source_to_code(self, data: Any, path: Any, *args: Any, **kwargs: Any) -> CodeType:
        """Return the code that the other loader makes of the generated module."""
        generated = None
        if isinstance(data, bytes) and is_to_compile(data):
            generated = _generated(path, data, self.settings)
        if generated is None:
            return super().source_to_code(data, path, *args, **kwargs)
        from vjpgen.importing.compiling import places
        from vjpgen.importing.places import move_code

        code = super().source_to_code(generated[0], path, *args, **kwargs)
        return move_code(code, places(data, generated))


def compiling(loader: SourceFileLoader, settings: Settings) -> SourceFileLoader:
    """Return a loader that does what this one does, and compiles annotated modules first."""
    around = copy.copy(loader)
    if not isinstance(loader, Compiling):
        around.__class__ = _around(type(loader))
    around.settings = settings  # pyright: ignore[reportAttributeAccessIssue]
    return around


@cache
def _around(kind: type[SourceFileLoader]) -> type[SourceFileLoader]:
    if kind is SourceFileLoader:
        return CompilingLoader
    return type(f"Compiling{kind.__name__}", (_AroundAnother, kind), {})


def code_of(path: str, data: bytes, settings: Settings, *, named: bool = False) -> CodeType:
    """Return the code of an annotated source, compiled now or earlier.

    Args:
        path: its absolute path.
        data: its bytes.
        settings: how to compile it.
        named: whether the user named this file outright.
    """
    config_file, config = configuration(path, settings)
    cached = caching.cache_path(path, f"{sys.flags.optimize or ''}vjpgen")
    key = _key(path, data, config, (config_file, settings.base, str(named)))
    kept = caching.load(cached, key)
    if kept is not None:
        return kept
    from vjpgen.importing.compiling import generate, to_code

    generated, lasting = generate(path, data, config_file, settings, named=named)
    if generated is None:
        code = compile(data, path, "exec", dont_inherit=True)
    else:
        code = to_code(path, data, generated)
    if lasting:
        caching.store(path, cached, key, code)
    return code


def _generated(path: str, data: bytes, settings: Settings) -> Any:
    """Return the generated module of an annotated source with its rows; None to use the source."""
    config_file, config = configuration(path, settings)
    cached = caching.cache_path(path, "vjpgentext")
    named = path == settings.named
    key = _key(path, data, config, (config_file, settings.base, str(named)))
    kept = caching.load(cached, key)
    if kept is not None:
        return kept[0]
    from vjpgen.importing.compiling import generate

    generated, lasting = generate(path, data, config_file, settings, named=named)
    if lasting:
        caching.store(path, cached, key, (generated,))
    return generated


def _key(path: str, data: bytes, config: bytes, circumstances: tuple[str, ...]) -> bytes:
    where = (path, package_root(os.path.dirname(path)))
    texts = (text.encode(errors="surrogateescape") for text in (*where, *circumstances))
    return caching.key(data, config, *texts)
