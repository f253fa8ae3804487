"""The finder that puts a compiling loader in the place of Python's own."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import ModuleType, TracebackType
from typing import Any, Literal, Self

from vjpgen.importing.errors import PlainImportWarning
from vjpgen.importing.loader import Compiling, compiling, is_to_compile
from vjpgen.importing.settings import Settings

_OWN = "vjpgen"  # the compiler, which is loaded while it is needed


class ImportHook:
    """A finder, first in `sys.meta_path`, that asks those behind it and wraps what they find.

    Args:
        settings: how modules are compiled.
        may_want: whether the module of this name may be wanted, before it is looked for.
        wants: whether a module is wanted, by its spec.
    """

    def __init__(
        self,
        settings: Settings,
        may_want: Callable[[str], bool],
        wants: Callable[[ModuleSpec], bool] = lambda spec: True,
    ) -> None:
        self._settings = settings
        self._may_want = may_want
        self._wants = wants
        self._busy = threading.local()

    def install(self) -> Self:
        """Put the hook in front of all others."""
        sys.meta_path.insert(0, self)
        return self

    def uninstall(self) -> None:
        """Take the hook away; modules that it has compiled stay."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.uninstall()

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module as the finders behind this one do, and have it compiled."""
        if not self._may_want(name) or name in self._names() or name.partition(".")[0] == _OWN:
            return None
        self._names().add(name)  # another finder may ask all finders in turn
        try:
            spec = self._find(name, path, target)
        finally:
            self._names().discard(name)
        if spec is not None and self._wants(spec):
            self._wrap(spec)
        return spec

    def _names(self) -> set[str]:
        """The names that this thread is looking for."""
        return self._busy.__dict__.setdefault("names", set())

    def _find(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None
    ) -> ModuleSpec | None:
        for finder in self._behind():
            find = getattr(finder, "find_spec", None)
            spec = None if find is None else find(name, path, target)
            if spec is not None:
                return spec
        return None

    def _behind(self) -> list[Any]:
        finders = list(sys.meta_path)
        return finders[finders.index(self) + 1 :] if self in finders else []

    def _wrap(self, spec: ModuleSpec) -> None:
        if isinstance(spec.loader, SourceFileLoader):
            spec.loader = compiling(spec.loader, self._settings)
        elif _is_annotated(spec):
            kind = type(spec.loader).__name__
            how = f"is loaded by {kind}, which vjpgen's import hook cannot work with"
            _warn(f"{spec.name} is annotated but {how}: it is imported plain, without its rules", 3)


class PackageHook(ImportHook):
    """A hook for packages by their names; it says which of their modules stay plain.

    Args:
        packages: dotted names, each with everything below it.
        settings: how modules are compiled.
    """

    def __init__(self, packages: Sequence[str], settings: Settings) -> None:
        super().__init__(settings, self._covers)
        self._packages = packages
        self._before = frozenset[str]()

    def install(self) -> Self:
        """Put the hook in front of all others; what was imported before is named."""
        how = "import it later, or reload it with importlib.reload"
        plain = tuple(self._plain())
        for name in plain:
            _warn(f"{name} was imported before vjpgen's hook: it stays plain; {how}", 4)
        self._before = frozenset(plain)
        return super().install()

    def uninstall(self) -> None:
        """Take the hook away; what another hook in front of it has loaded meanwhile is named."""
        if self in sys.meta_path:
            how = "install vjpgen's hook after the others"
            for name in set(self._plain()) - self._before:
                _warn(f"{name} was loaded past vjpgen's hook: it stays plain; {how}", 4)
        super().uninstall()

    def _covers(self, name: str) -> bool:
        return any(name == each or name.startswith(f"{each}.") for each in self._packages)

    def _plain(self) -> Iterator[str]:
        """The annotated modules that no hook has compiled."""
        for name, module in list(sys.modules.items()):
            spec = getattr(module, "__spec__", None) if self._covers(name) else None
            if not isinstance(spec, ModuleSpec) or isinstance(spec.loader, Compiling):
                continue
            if isinstance(spec.loader, SourceFileLoader) and _is_annotated(spec):
                yield name


def install_import_hook(
    *packages: str, on_error: Literal["raise", "plain"] = "raise"
) -> ImportHook:
    """Compile the annotated modules of these packages when they are imported.

    The hook works until `uninstall` is called, or to the end of a `with` statement:

        with vjpgen.install_import_hook("pkg"):
            import pkg.model

    What was imported before is not touched; a `PlainImportWarning` names such modules.

    Args:
        packages: dotted names of packages, each with everything below it, or of single modules.
        on_error: "raise" raises `vjpgen.importing.CompileError` where a module has errors; "plain"
            prints them and imports the module plain, without its rules.

    Returns:
        The hook: a context manager, with a method `uninstall`.

    Raises:
        TypeError: where no package is named, or a name is no string.
        ValueError: where a name is not one that `import` could spell.
    """
    if not packages:
        raise TypeError('name the packages to compile, as in install_import_hook("pkg")')
    for package in packages:
        _check_name(package)
    if on_error not in ("raise", "plain"):
        raise ValueError(f'on_error is "raise" or "plain", not {on_error!r}')
    return PackageHook(packages, Settings(on_error == "plain")).install()


def _check_name(package: object) -> None:
    if not isinstance(package, str):
        raise TypeError(f"a package is given by its dotted name, not by {package!r}")
    if not all(part.isidentifier() for part in package.split(".")):
        hint = "write it as `import` does, as in `pkg.model`"
        raise ValueError(f"{package!r} is no dotted name of a package or module: {hint}")


def _is_annotated(spec: ModuleSpec) -> bool:
    """Whether the source of a module holds an annotation, as far as it can be read."""
    data = _source(spec)
    if data is None or not is_to_compile(data):
        return False
    from vjpgen.compiler import is_annotated, is_generated

    return is_annotated(data) and not is_generated(data)


def _source(spec: ModuleSpec) -> bytes | None:
    origin = spec.origin or ""
    if spec.has_location and origin.endswith(".py"):
        with suppress(OSError), open(origin, "rb") as file:
            return file.read()
    get_source = getattr(spec.loader, "get_source", None)
    with suppress(ImportError, SyntaxError, UnicodeError):
        source = None if get_source is None else get_source(spec.name)
        return None if source is None else source.encode(errors="replace")
    return None


def _warn(text: str, level: int) -> None:
    warnings.warn(text, PlainImportWarning, stacklevel=level)
