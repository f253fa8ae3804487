"""Compiling one source, so that nothing it holds ends the run, and noting what was asked."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from vjpgen.compiler import Options, Result, Siblings, compile_source
from vjpgen.compiler.siblings import Origin, Sources
from vjpgen.diagnostics import WHOLE_FILE, Diagnostic


@dataclass(frozen=True)
class Task:
    """All that compiling one source depends on.

    Args:
        data: the source's bytes.
        filename: the source as the user named it.
        options: what the compiler is told.
        siblings: the annotated modules of the project, as the source sees them.
    """

    data: bytes = field(repr=False)
    filename: str
    options: Options
    siblings: Siblings = field(repr=False)


@dataclass(frozen=True)
class Notes:
    """What compiling asked about other modules.

    Args:
        asked: each question, a method of `Siblings` with its arguments, and its answer.
        read: each module whose text the answers come from, with the text's digest; None for one
            that is not there.
    """

    asked: dict[tuple[str, ...], Any] = field(default_factory=dict)
    read: dict[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Made:
    """What compiling gave, and what it asked on the way."""

    result: Result
    notes: Notes = field(default_factory=Notes)

    @property
    def is_lasting(self) -> bool:
        """Whether the same would come again: no limit of this machine was met."""
        return all(item.code != "VJP903" for item in self.result.diagnostics)


@dataclass(frozen=True)
class _NotedSources:
    """Sources that note what is read of them."""

    inner: Sources
    notes: Notes

    def get(self, module: str, /) -> tuple[bytes, str] | None:
        found = self.inner.get(module)
        self.notes.read[module] = digest_of(self.inner, module)
        return found


@dataclass(frozen=True)
class _Asked(Siblings):
    """Siblings that note what they are asked."""

    notes: Notes = field(default_factory=Notes)

    def annotated(self, module: str | None) -> bool:
        answer = super().annotated(module)
        if module is not None:
            self.notes.asked["annotated", module] = answer
        return answer

    def origin(self, module: str, name: str) -> Origin | None:
        answer = super().origin(module, name)
        self.notes.asked["origin", module, name] = answer
        return answer

    def starred(self, module: str) -> tuple[tuple[str, Origin], ...]:
        answer = super().starred(module)
        self.notes.asked["starred", module] = answer
        return answer

    def hands_on(self, module: str) -> bool:
        answer = super().hands_on(module)
        self.notes.asked["hands_on", module] = answer
        return answer


def digest_of(sources: Sources, module: str) -> str | None:
    """Return the digest of a module's text and package; None where there is no such module."""
    found = sources.get(module)
    if found is None:
        return None
    data, package = found
    return hashlib.sha256(package.encode() + b"\0" + data).hexdigest()


def make(task: Task) -> Made:
    """Compile; a fault of the compiler's own is a finding about this file, not the end."""
    inner, notes = task.siblings, Notes()
    siblings = _Asked(inner.modules, inner.package, _NotedSources(inner.sources, notes), notes)
    try:
        result = compile_source(task.data, task.filename, options=task.options, siblings=siblings)
    except Exception as error:
        result = failed(task, f"{type(error).__name__}: {error}")
    return Made(result, notes)


def failed(task: Task, how: str) -> Result:
    """Return the finding that the compiler itself failed on a source."""
    help_ = "this is a fault of vjpgen; please report it with the source"
    message = f"the compiler failed: {how}"
    return Result(diagnostics=(Diagnostic("VJP903", message, task.filename, WHOLE_FILE, help_),))
