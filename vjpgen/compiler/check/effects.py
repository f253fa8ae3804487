"""VJP303: a backward rule that creates variables, sows or draws rngs.

A `@nn.compact` rule may name the parameters and layers of the forward pass again: they are found,
not created. Nothing can be drawn or written there either.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from vjpgen.compiler.check.backward import Code, at_part, takes_self
from vjpgen.compiler.classes import class_kind, resolved_path
from vjpgen.compiler.facts import Facts
from vjpgen.compiler.instances import Instance, layer_made_by
from vjpgen.compiler.references import Reference
from vjpgen.compiler.scopes import Found, Scope, look_up, own_nodes
from vjpgen.diagnostics import Diagnostic

ALWAYS = {
    "sow": "sows",
    "perturb": "perturbs a value",
    "make_rng": "draws a key",
    "put_variable": "writes a variable",
}
_CREATES = {"param": "creates a parameter", "variable": "creates a variable"}


def check_effects(facts: Facts, rule: Reference, code: Code) -> Iterator[Diagnostic]:
    """Look at what the rule does to its snapshot, and at the layers that it makes."""
    for node, what, help_ in (*_on_snapshot(facts, rule, code), *_layers(code)):
        message = f"`{code.node.name}` {what}, which the backward pass cannot do"
        yield at_part(facts, rule, "VJP303", message, node, help_)


Effect = tuple[ast.expr, str, str]


def _on_snapshot(facts: Facts, rule: Reference, code: Code) -> Iterator[Effect]:
    """Calls of the module's own methods that change it or draw from it."""
    what = dict(ALWAYS) if _is_compact(code) else ALWAYS | _CREATES
    for node, scope, hidden in code.nodes:
        called = node.func if isinstance(node, ast.Call) else None
        if not isinstance(called, ast.Attribute) or called.attr not in what:
            continue
        holder = called.value
        if not isinstance(holder, ast.Name) or holder.id in hidden:
            continue
        found = look_up(holder.id, scope)
        if found is not None and _is_snapshot(facts, rule, code, holder, found, called.attr):
            text = f"{what[called.attr]} by `{holder.id}.{called.attr}`"
            yield called, text, instead_of(called.attr)


def instead_of(method: str) -> str:
    """What to do in place of calling such a method of a module in a backward rule."""
    if method in ("sow", "perturb", "put_variable"):
        return "do that in `fwd`, or return the value as the tangent of an argument"
    if method == "make_rng":
        return "draw the key in `fwd` and pass it on as a residual"
    return (
        "do that in `fwd` and pass the value on as a residual; `get_variable` reads what is there"
    )


def _is_snapshot(
    facts: Facts, rule: Reference, code: Code, node: ast.Name, found: Found, attribute: str
) -> bool:
    """Whether a name is the rule's `self`, or what `snapshot.module()` gave."""
    if found.scope is None or found.scope.node is not code.node:
        return False
    first = (*code.node.args.posonlyargs, *code.node.args.args)[:1]
    if takes_self(facts, rule) and first and first[0].arg == node.id and found.only is not None:
        kind = class_kind(facts.scope)
        known = attribute in ALWAYS or kind == "linen"
        return (
            kind in ("linen", "unknown") and known and not Instance(facts.scope).defines(attribute)
        )
    made = found.only.value if found.only is not None else None
    return (
        isinstance(made, ast.Call)
        and isinstance(made.func, ast.Attribute)
        and made.func.attr == "module"
        and not made.args
        and not made.keywords
    )


def _layers(code: Code) -> Iterator[Effect]:
    """Layers that are made here and called: they would need parameters of their own."""
    if _is_compact(code):
        return
    help_ = "call the layer in `fwd` and pass on what is needed, or use `.apply` with its variables"
    for node in own_nodes(code.node):  # an inner function may be called with a module to bind to
        layer = _called_layer(node.func, code.scope) if isinstance(node, ast.Call) else None
        if layer is not None and isinstance(node, ast.Call):
            yield node, f"creates the variables of a new `{layer}`", help_


def _called_layer(called: ast.expr, scope: Scope) -> str | None:
    """The layer that `nn.Dense(3)(x)` calls, or `dense(x)` of one that is made in the rule."""
    made: ast.expr | None = called
    if isinstance(called, ast.Name):
        bindings = scope.bindings.get(called.id, [])
        made = bindings[0].value if len(bindings) == 1 else None
    if not isinstance(made, ast.Call) or any(k.arg in ("parent", None) for k in made.keywords):
        return None
    return layer_made_by(made, scope)


def _is_compact(code: Code) -> bool:
    decorators = code.node.decorator_list
    return any(resolved_path(d, code.scope) == "flax.linen.compact" for d in decorators)
