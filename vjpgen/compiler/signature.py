"""What a function can be called with, as its source says it."""

from __future__ import annotations

import ast
from dataclasses import dataclass


@dataclass(frozen=True)
class Signature:
    """The parameters of a `def` or `lambda`.

    Args:
        positional: the names that can be given by position, in order.
        required: how many of those have no default.
        vararg: the name after `*`, if any.
        keyword_only: the names that only a keyword can give.
        keyword_required: those of them that have no default.
        kwarg: the name after `**`, if any.
    """

    positional: tuple[str, ...]
    required: int
    vararg: str | None
    keyword_only: tuple[str, ...]
    keyword_required: frozenset[str]
    kwarg: str | None

    @property
    def names(self) -> tuple[str, ...]:
        """Every parameter's name, in the order of the signature."""
        star = (self.vararg,) if self.vararg else ()
        double = (self.kwarg,) if self.kwarg else ()
        return (*self.positional, *star, *self.keyword_only, *double)

    def takes(self, count: int) -> bool:
        """Whether a call with `count` positional arguments and no others binds."""
        enough = count >= self.required and not self.keyword_required
        return enough and (self.vararg is not None or count <= len(self.positional))

    def describe(self) -> str:
        """How many positional arguments it takes, in words."""
        least, most = self.required, len(self.positional)
        if self.vararg is not None:
            return f"at least {least}"
        return str(most) if least == most else f"{least} to {most}"


def signature_of(args: ast.arguments) -> Signature:
    """Read the parameters of a `def` or `lambda`."""
    positional = tuple(argument.arg for argument in (*args.posonlyargs, *args.args))
    defaults = zip(args.kwonlyargs, args.kw_defaults, strict=True)
    return Signature(
        positional=positional,
        required=len(positional) - len(args.defaults),
        vararg=args.vararg.arg if args.vararg else None,
        keyword_only=tuple(argument.arg for argument in args.kwonlyargs),
        keyword_required=frozenset(name.arg for name, default in defaults if default is None),
        kwarg=args.kwarg.arg if args.kwarg else None,
    )
