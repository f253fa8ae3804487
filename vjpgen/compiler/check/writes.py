"""VJP305: a rule that binds a variable of the functions around it anew, by `nonlocal`.

A name that belongs to a function of the rule itself, as of the primal around a helper inside it,
is as free as any.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from vjpgen.compiler.facts import Facts
from vjpgen.compiler.reach import Part, reach
from vjpgen.compiler.report import at_node
from vjpgen.compiler.scopes import Scope, look_up
from vjpgen.diagnostics import Diagnostic


def check_writes(facts: Facts) -> Iterator[Diagnostic]:
    """Look at the primal, its rules and the local functions that they use."""
    found = reach(facts)
    for part in found.parts:
        for statement, scope in _declarations(part):
            for name in dict.fromkeys(statement.names):
                owner = look_up(name, scope)
                around = owner.scope if owner is not None else None
                if around is None or around.node not in found.around or not _binds(scope, name):
                    continue
                yield at_node(
                    facts.source,
                    "VJP305",
                    f"`{scope.name}` writes `{name}` of `{around.name}`, which is outside of the "
                    f"rule of `{facts.node.name}`",
                    statement,
                    f"return `{name}` as an output, a residual or a tangent, or keep it in a "
                    "variable of a module",
                )


def _declarations(part: Part) -> Iterator[tuple[ast.Nonlocal, Scope]]:
    for node, scope, _ in part.nodes:
        if isinstance(node, ast.Nonlocal):
            yield node, scope


def _binds(scope: Scope, name: str) -> bool:
    """Whether a function that declares a name binds it, or takes it away."""
    return name in scope.bindings or any(
        isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Del)
        for node in scope.nodes
    )
