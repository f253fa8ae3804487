"""Which findings are shown: `select`, `extend-select`, `ignore` and `per-file-ignores`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vjpgen.diagnostics.catalogue import CATALOGUE

_ALWAYS = ("VJP008", "VJP401", "VJP403", "VJP9")


@dataclass(frozen=True)
class Selection:
    """The selectors of the configuration, each a code or the beginning of some, or `ALL`.

    Args:
        select: replaces what is shown by default; None leaves the default.
        extend_select: is shown besides.
        ignore: is not shown.
        per_file_ignores: pairs of a file pattern and what is not shown in such files.
    """

    select: tuple[str, ...] | None = None
    extend_select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    per_file_ignores: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def shows(self, code: str) -> bool:
        """Whether findings of this code are shown, files apart.

        The longest selector that fits decides, and of two equal ones `ignore` does.
        """
        chosen = () if self.select is None else self.select
        wanted = _longest(code, (*chosen, *self.extend_select))
        if wanted is None:
            wanted = 0 if self.select is None and CATALOGUE[code].default else -1
        unwanted = _longest(code, self.ignore)
        return wanted >= 0 and (unwanted is None or wanted > unwanted)

    def shows_in(self, code: str, patterns: Iterable[str]) -> bool:
        """Whether findings of this code are shown in a file that fits these patterns."""
        if code.startswith(_ALWAYS):
            return True
        fitting = set(patterns)
        dropped = [codes for pattern, codes in self.per_file_ignores if pattern in fitting]
        if any(_longest(code, codes) is not None for codes in dropped):
            return False
        return self.shows(code)


def is_selector(text: str) -> bool:
    """Whether `text` selects any code at all."""
    return any(_fits(code, text) for code in CATALOGUE)


def _fits(code: str, selector: str) -> bool:
    return selector == "ALL" or (bool(selector) and code.startswith(selector))


def _longest(code: str, selectors: Iterable[str]) -> int | None:
    """Return the length of the longest selector that fits, 0 for `ALL`, None for none."""
    lengths = [0 if each == "ALL" else len(each) for each in selectors if _fits(code, each)]
    return max(lengths, default=None)
