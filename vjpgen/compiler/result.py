"""What goes into the compiler beside the source, and what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vjpgen.diagnostics import Diagnostic, Span


@dataclass(frozen=True)
class Options:
    """What the configuration and the file's place decide.

    Args:
        origin: the source's path from its package's root, with "/"; it stands in the header.
        suffix: what a generated module's name adds to its source's.
        missing: the policy of rules that state none ("error", "zero", "autodiff"), or None.
    """

    origin: str
    suffix: str = "_vjp"
    missing: str | None = None


@dataclass(frozen=True)
class RuleInfo:
    """One annotated function, as `vjpgen list` shows it.

    Args:
        name: its qualified name.
        target: "linen" or "function".
        filename: the file as the user named it.
        span: the annotation's place.
        keys: each key of the annotation with its value's source text.
    """

    name: str
    target: str
    filename: str
    span: Span
    keys: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """What compiling one file gave.

    Args:
        output: the generated module; None where an error was found or nothing is annotated.
        diagnostics: every finding, in the order of the file.
        rules: the annotated functions, as far as they could be read.
        rows: the source's row for each row of the output; negative where the row was inserted
            and stands for the annotation in that row.
    """

    output: bytes | None = None
    diagnostics: tuple[Diagnostic, ...] = ()
    rules: tuple[RuleInfo, ...] = ()
    rows: tuple[int, ...] = field(default=(), repr=False)
