"""A buffer at one moment, seen in every way that a feature needs; each way is tried once."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from vjpgen.building.pipeline import compile_job
from vjpgen.building.plan import Job
from vjpgen.compiler.attach import Definition
from vjpgen.compiler.inspection import Inspection, inspect_source
from vjpgen.compiler.scopes import Scope
from vjpgen.compiler.source import Position
from vjpgen.compiler.tokens import Comment
from vjpgen.diagnostics import Diagnostic
from vjpgen.lsp.document import Document
from vjpgen.lsp.reading import AnnotationText, annotation_at, annotations_of, comments_of
from vjpgen.lsp.trees import function_at, mended_tree, parse, scope_of

ReadFile = Callable[[str], Document | None]


@dataclass(frozen=True, eq=False)
class View:
    """A buffer at one moment.

    Args:
        document: its text.
        job: how the commands would compile it; where they would not, what they would say.
        roots: the folders that its absolute imports may start from.
        read: gives the text of another file by its absolute path, or None.
        last_tree: the tree of the buffer when it last had one.
    """

    document: Document
    job: Job | tuple[Diagnostic, ...]
    roots: tuple[str, ...]
    read: ReadFile
    last_tree: ast.Module | None = None

    @cached_property
    def findings(self) -> tuple[Diagnostic, ...]:
        """What `vjpgen check` would show for the buffer."""
        return compile_job(self.job).diagnostics if isinstance(self.job, Job) else self.job

    @cached_property
    def inspection(self) -> Inspection | None:
        """What the compiler knows of its rules; None where it does not parse."""
        job = self.job
        if not isinstance(job, Job):
            return None
        return inspect_source(job.data, job.file.shown, job.options, job.siblings)

    @property
    def policy(self) -> str | None:
        """What becomes of missing tangents where an annotation does not say it."""
        return self.job.options.missing if isinstance(self.job, Job) else None

    @cached_property
    def own_tree(self) -> ast.Module | None:
        """Its syntax tree; None where it does not parse."""
        return parse(self.document.data)

    @cached_property
    def tree(self) -> ast.Module | None:
        """Its syntax tree, as good as can be had while someone is typing."""
        return self.own_tree or mended_tree(self.document) or self.last_tree

    @cached_property
    def comments(self) -> tuple[Comment, ...]:
        return comments_of(self.document)

    @cached_property
    def annotations(self) -> tuple[AnnotationText, ...]:
        return annotations_of(self.comments)

    def annotation(self, row: int) -> AnnotationText | None:
        """The annotation that has a line in this row."""
        return annotation_at(self.annotations, row)

    def comment_at(self, position: Position) -> Comment | None:
        """The comment that a place lies in."""
        row, column = position
        for comment in self.comments:
            if comment.row == row and comment.column <= column <= comment.end[1]:
                return comment
        return None

    def function(self, annotation: AnnotationText) -> tuple[Definition, Scope] | None:
        """The function that an annotation belongs to, and the scope that this is defined in."""
        node = None if self.tree is None else function_at(self.tree, annotation)
        if node is None or self.tree is None:
            return None
        return node, scope_of(self.tree, node)
