"""A backward rule whose `def` the file shows, ready to be read."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from vjpgen.compiler.facts import Facts
from vjpgen.compiler.references import Reference
from vjpgen.compiler.report import at_node
from vjpgen.compiler.scopes import Found, Scope, look_up, own_nodes, scoped_nodes
from vjpgen.diagnostics import Diagnostic

_REACHES_ALL = ("locals", "vars", "eval", "exec", "globals")


@dataclass(frozen=True, eq=False)
class Code:
    """The body of one function.

    Args:
        node: its `def`.
        scope: the scope of its body.
    """

    node: ast.FunctionDef
    scope: Scope

    @cached_property
    def nodes(self) -> tuple[tuple[ast.AST, Scope, frozenset[str]], ...]:
        """Every node of the body, inner functions included, with its scope and hidden names."""
        return tuple(
            item for statement in self.node.body for item in scoped_nodes(statement, self.scope)
        )

    @cached_property
    def parents(self) -> dict[ast.AST, ast.AST]:
        """The node that each node of the body is a part of."""
        return {child: node for node, _, _ in self.nodes for child in ast.iter_child_nodes(node)}

    @cached_property
    def reads(self) -> frozenset[str]:
        """The names that the body reads anywhere; a shadowed one counts, to be safe."""
        return frozenset(
            node.id
            for node, _, _ in self.nodes
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
        )

    @property
    def reaches_all(self) -> bool:
        """Whether it may read its variables by other means than their names."""
        return not self.reads.isdisjoint(_REACHES_ALL)

    def names(self) -> Iterator[tuple[ast.Name, Found]]:
        """Each name that the body reads, with what it is bound to."""
        for node, scope, hidden in self.nodes:
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                found = look_up(node.id, scope) if node.id not in hidden else None
                if found is not None:
                    yield node, found

    def uses_of(self, name: str) -> list[ast.Name]:
        """Where the body reads a variable of its own."""
        places = [
            (node, scope)
            for node, scope, hidden in self.nodes
            if isinstance(node, ast.Name) and node.id == name and name not in hidden
            if isinstance(node.ctx, ast.Load)
        ]
        found = [(node, look_up(name, scope)) for node, scope in places]
        return [node for node, what in found if what and _is_in(what, self.node)]

    def captured(self) -> Iterator[tuple[ast.Name, Found]]:
        """The names that it takes from functions around it."""
        inner = {scope.node for _, scope, _ in self.nodes} | {self.node}
        for node, found in self.names():
            around = found.scope.node if found.scope is not None else None
            if isinstance(around, ast.FunctionDef | ast.AsyncFunctionDef) and around not in inner:
                yield node, found

    def returned(self) -> Iterator[ast.expr]:
        """What its own `return`s give."""
        for node in own_nodes(self.node):
            if isinstance(node, ast.Return) and node.value is not None:
                yield node.value


def _is_in(found: Found, function: ast.FunctionDef) -> bool:
    return found.scope is not None and found.scope.node is function


def code_of(reference: Reference | None, facts: Facts) -> Code | None:
    """The body of a rule; None where the file does not show just one."""
    if reference is None:
        return None
    node = reference.definition
    if isinstance(node, ast.Lambda):
        node = _as_def(node)
    if not isinstance(node, ast.FunctionDef):
        return None
    return Code(node, Scope(node, _scope_around(reference, facts), node.name))


def _scope_around(reference: Reference, facts: Facts) -> Scope:
    """The scope that a rule is defined in: that of its name, or of the class it is dotted from."""
    found = reference.found
    if isinstance(reference.expression, ast.Lambda) or found is None or found.scope is None:
        return facts.scope
    scope, binding = found.scope, found.only
    for part in (reference.name or "").split(".")[1:]:
        if binding is None or not isinstance(binding.node, ast.ClassDef):
            break
        scope = Scope(binding.node, scope, binding.node.name)
        binding = next(iter(scope.bindings.get(part, [])), None)
    return scope


def _as_def(node: ast.Lambda) -> ast.FunctionDef:
    """A lambda as the `def` that it is short for."""
    value = ast.copy_location(ast.Return(node.body), node.body)
    made = ast.copy_location(ast.parse("def rule(): ...").body[0], node)
    assert isinstance(made, ast.FunctionDef)
    made.name, made.args, made.body = "bwd", node.args, [value]
    return made


def residuals_index(facts: Facts, rule: Reference) -> int | None:
    """Which of the rule's parameters gets the residuals; None where the source leaves it open."""
    names = nondiff_names(facts)
    if names is None or not facts.keeps_signature or facts.signature.vararg in facts.nondiff:
        return None
    if rule.in_class and rule.is_static != facts.is_static and not facts.is_method:
        return None
    return len(names) + takes_self(facts, rule)


def takes_self(facts: Facts, rule: Reference) -> bool:
    """Whether the rule is a method, whose first parameter is a snapshot of the module."""
    return rule.in_class and facts.is_method and not rule.is_static


def nondiff_names(facts: Facts) -> list[str] | None:
    """The nondiff arguments in signature order; None if some are only a part of `*args`."""
    declared = 0
    for key in ("nondiff_argnums", "nondiff_argnames"):
        value = facts.value(key)
        declared += len(value) if isinstance(value, tuple) else 0
    names = [name for name in facts.signature.names if name in facts.nondiff]
    return names if len(names) == declared else None


def at_part(
    facts: Facts, rule: Reference, code: str, message: str, node: ast.expr | ast.stmt, help_: str
) -> Diagnostic:
    """A finding in a rule; a lambda in the annotation has no place of its own in the file."""
    if isinstance(rule.expression, ast.Lambda):
        return Diagnostic(code, message, facts.source.filename, rule.key.span, help_)
    return at_node(facts.source, code, message, node, help_)
