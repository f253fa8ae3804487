"""The other modules of the project, as one module of it imports them.

The compiler asks few questions (`annotated`, `origin`, `starred`, `hands_on`), each answered by
plain values, so that a cache can keep the questions of one compilation with their answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from vjpgen.compiler.exports import Exports

Origin = tuple[str, str]
"""An annotated module, and the name of what was imported from it; "" for the module itself."""


class Sources(Protocol):
    """Where the text of any module of the project can be had, annotated or not."""

    def get(self, module: str, /) -> tuple[bytes, str] | None:
        """The bytes of a module, and the package that its relative imports start from."""
        ...


@dataclass(frozen=True)
class Siblings:
    """The annotated modules of the project, seen from one module of it.

    Args:
        modules: their dotted names, as `import` spells them.
        package: the dotted name of the package that the compiled module lies in ("" at the
            root); relative imports start there.
        sources: the text of the project's modules, read where a name is handed on by a module
            that is not annotated; empty where nothing is known of them.
    """

    modules: frozenset[str] = frozenset()
    package: str = ""
    sources: Sources = field(default_factory=dict, compare=False, repr=False)

    def absolute(self, module: str | None, level: int) -> str | None:
        """The dotted name that `from <level dots><module> import` means, or None."""
        return absolute(self.package, module, level)

    def annotated(self, module: str | None) -> bool:
        """Whether `module` is an annotated module of the project."""
        return module is not None and module in self.modules

    def origin(self, module: str, name: str) -> Origin | None:
        """What `from module import name` gives, where that comes from an annotated module.

        Names that modules hand on (`from .layers import Dense` in an `__init__.py`) are followed
        as far as their text shows it.
        """
        return self._origin(module, name, frozenset()) if self.modules else None

    def starred(self, module: str) -> tuple[tuple[str, Origin], ...]:
        """The names that `from module import *` gives from annotated modules, sorted."""
        names = self._public(module, frozenset()) if self.modules else set()
        found = ((name, self.origin(module, name)) for name in sorted(names))
        return tuple((name, origin) for name, origin in found if origin is not None)

    def hands_on(self, module: str) -> bool:
        """Whether a module that is not annotated hands on anything of an annotated one."""
        if not self.modules or self.annotated(module):
            return False
        exports = self._exports(module)
        names = exports.imported if exports is not None else ()
        return any(self.origin(module, name) for name in names) or bool(self.starred(module))

    def _origin(self, module: str, name: str, seen: frozenset[Origin]) -> Origin | None:
        if self.annotated(module):
            return module, name
        own = f"{module}.{name}"
        exports = self._exports(module)
        if exports is not None and (module, name) not in seen:
            seen |= {(module, name)}
            if name in exports.hidden:
                return None
            for source, original in self._providers(exports, name):
                if not original:
                    return (source, "") if self.annotated(source) else None
                if (source, original) != (module, name):
                    return self._origin(source, original, seen)
        return (own, "") if self.annotated(own) else None

    def _providers(self, exports: Exports, name: str) -> Iterator[Origin]:
        """Where a module gets a name from, by the text: an import, or else the last such star."""
        if name in exports.imported:
            yield exports.imported[name]
        elif not name.startswith("__"):
            for star in reversed(exports.stars):
                if name in self._public(star, frozenset()):
                    yield star, name
                    return

    def _public(self, module: str, seen: frozenset[str]) -> set[str]:
        """The names that `from module import *` gives, as far as the text shows them."""
        exports = self._exports(module)
        if exports is None or module in seen:
            return set()
        if exports.listed is not None:
            return set(exports.listed)
        names = {*exports.imported, *exports.hidden}
        for star in exports.stars:
            names |= self._public(star, seen | {module})
        return {name for name in names if not name.startswith("_")}

    def _exports(self, module: str) -> Exports | None:
        from vjpgen.compiler.exports import exports_of

        found = self.sources.get(module)
        return None if found is None else exports_of(*found)


def absolute(package: str, module: str | None, level: int) -> str | None:
    """The dotted name that `from <level dots><module> import` means in a package, or None."""
    if level == 0:
        return module
    parts = package.split(".") if package else []
    if level > len(parts):
        return None
    return ".".join([*parts[: len(parts) - level + 1], *([module] if module else [])])
