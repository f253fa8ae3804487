"""What every target offers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from vjpgen.compiler.facts import Facts
from vjpgen.diagnostics import Diagnostic


@dataclass(frozen=True)
class Target:
    """A way to lift a function.

    Args:
        name: its name in annotations, in `vjpgen list` and, for methods, in `lift(target=...)`.
        template: the file under templates/ that it fills.
        module_first: whether the first parameter is a module, which cannot be nondiff.
        refuse: the findings for functions that it cannot lift.
    """

    name: str
    template: str
    module_first: bool
    refuse: Callable[[Facts], Iterator[Diagnostic]]


def refuse_nothing(facts: Facts) -> Iterator[Diagnostic]:
    """The findings of a target that can lift every function."""
    del facts
    yield from ()
