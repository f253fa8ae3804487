"""Targets: what an annotated function is lifted as. One file each, one interface.

A target says which template it fills and what it refuses; a new target is a new file and a line
in `TARGETS`.
"""

from __future__ import annotations

import ast

from vjpgen.compiler.classes import annotation_kind, class_kind, resolved_path
from vjpgen.compiler.facts import Facts
from vjpgen.compiler.scopes import Scope
from vjpgen.compiler.targets.function import FUNCTION
from vjpgen.compiler.targets.interface import Target
from vjpgen.compiler.targets.linen import LINEN
from vjpgen.compiler.targets.nnx import NNX

__all__ = ["TARGETS", "Target", "target_of"]

TARGETS: dict[str, Target] = {target.name: target for target in (LINEN, FUNCTION, NNX)}


def target_of(facts: Facts) -> Target:
    """The target that the annotation names, or else the one that the source shows."""
    named = facts.value("target")
    return TARGETS[named if isinstance(named, str) else _infer(facts)]


def _infer(facts: Facts) -> str:
    if facts.is_method:
        kind = class_kind(facts.scope)
        return {"plain": "function", "unknown": "linen"}.get(kind, kind)
    parameters = [*facts.node.args.posonlyargs, *facts.node.args.args]
    kind = annotation_kind(parameters[0].annotation, facts.scope) if parameters else "plain"
    if kind != "plain":
        return kind
    return _kind_that_fwd_lifts(facts) or _kind_of_enclosing_module(facts) or "function"


def _kind_that_fwd_lifts(facts: Facts) -> str | None:
    """The kind of module that the forward rule's `nn.vjp` takes first, or its `nnx.vjp`."""
    node = facts.fwd.definition if facts.fwd is not None else None
    called = (item.func for item in ast.walk(node) if isinstance(item, ast.Call)) if node else ()
    paths = {resolved_path(func, facts.scope) for func in called}
    return next((kind for kind in ("linen", "nnx") if f"flax.{kind}.vjp" in paths), None)


def _kind_of_enclosing_module(facts: Facts) -> str | None:
    """The kind of the method that the function is nested in and called in as `f(self, ...)`."""
    method = facts.scope.node
    around = facts.scope.parent
    if not isinstance(method, ast.FunctionDef) or around is None:
        return None
    if not around.is_class or not method.args.args:
        return None
    kind = {"unknown": "linen", "plain": None}.get(own := class_kind(around), own)
    return kind if _called_with(facts.scope, facts.node.name, method.args.args[0].arg) else None


def _called_with(method: Scope, function: str, module: str) -> bool:
    for node in method.nodes:
        if isinstance(node, ast.Call) and node.args and isinstance(node.func, ast.Name):
            first = node.args[0]
            if node.func.id == function and isinstance(first, ast.Name) and first.id == module:
                return True
    return False
