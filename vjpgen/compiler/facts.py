"""All that is known of one annotated function; what the checks and the targets read."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from vjpgen.compiler.annotations import Annotation
from vjpgen.compiler.attach import Definition
from vjpgen.compiler.references import SAME_SIGNATURE, Reference, resolve
from vjpgen.compiler.scopes import Scope
from vjpgen.compiler.signature import Signature, signature_of
from vjpgen.compiler.source import Source
from vjpgen.compiler.values import Value, dotted


@dataclass(frozen=True, eq=False)
class Facts:
    """One annotated function.

    Args:
        source: the file.
        annotation: its annotation, read.
        node: its `def`.
        scope: the scope that it is defined in.
        annotated: the facts of every annotated function of the file, by its `def`.
    """

    source: Source
    annotation: Annotation
    node: Definition
    scope: Scope
    annotated: Mapping[Definition, Facts]

    @property
    def qualname(self) -> str:
        above = self.scope.qualname
        return f"{above}.{self.node.name}" if above else self.node.name

    @cached_property
    def signature(self) -> Signature:
        return signature_of(self.node.args)

    @cached_property
    def decorators(self) -> tuple[tuple[str, ast.expr], ...]:
        """Each decorator as a dotted name ("" if it is none), a call's by what is called."""
        found = []
        for node in self.node.decorator_list:
            called = node.func if isinstance(node, ast.Call) else node
            found.append((dotted(called) or "", node))
        return tuple(found)

    @property
    def keeps_signature(self) -> bool:
        """Whether the function is called as its `def` says: no decorator can have changed that."""
        return all(name.rpartition(".")[2] in SAME_SIGNATURE for name, _ in self.decorators)

    @property
    def is_static(self) -> bool:
        return any(name == "staticmethod" for name, _ in self.decorators)

    @property
    def is_method(self) -> bool:
        """Whether its first parameter is the instance."""
        return self.scope.is_class and not self.is_static

    @cached_property
    def fwd(self) -> Reference | None:
        return self._reference("fwd")

    @cached_property
    def bwd(self) -> Reference | None:
        return self._reference("bwd")

    @cached_property
    def example(self) -> Reference | None:
        return self._reference("example")

    def references(self) -> Iterator[Reference]:
        """The values that name functions."""
        for reference in (self.fwd, self.bwd, self.example):
            if reference is not None:
                yield reference

    def value(self, key: str) -> Value | None:
        """The value of a key, None where the annotation does not give it."""
        given = self.annotation.keys.get(key)
        return None if given is None else given.value

    @cached_property
    def nondiff(self) -> frozenset[str]:
        """The parameters declared nondiff, those that exist."""
        names = set()
        for index in self._tuple("nondiff_argnums"):
            if isinstance(index, int) and 0 <= index < len(self.signature.positional):
                names.add(self.signature.positional[index])
        names.update(n for n in self._tuple("nondiff_argnames") if n in self.signature.names)
        return frozenset(str(name) for name in names)

    @property
    def has_nondiff(self) -> bool:
        return bool(self._tuple("nondiff_argnums") or self._tuple("nondiff_argnames"))

    def _tuple(self, key: str) -> tuple[int | str, ...]:
        value = self.value(key)
        return value if isinstance(value, tuple) else ()

    def _reference(self, key: str) -> Reference | None:
        given = self.annotation.keys.get(key)
        return None if given is None else resolve(given, self.scope)


def scopes_of(tree: ast.Module, wanted: set[Definition]) -> dict[Definition, Scope]:
    """The scope that each wanted function is defined in."""
    found: dict[Definition, Scope] = {}

    def visit(node: ast.AST, scope: Scope) -> None:
        for name in ("body", "handlers", "cases", "orelse", "finalbody"):
            block = getattr(node, name, ())
            for child in block if isinstance(block, list) else ():
                inner = scope
                if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                    if not isinstance(child, ast.ClassDef) and child in wanted:
                        found[child] = scope
                    inner = scope.inner(child, child.name)
                visit(child, inner)

    visit(tree, Scope(tree, None, ""))
    return found
