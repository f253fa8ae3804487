"""VJP301: a backward rule that uses a module of the functions around it.

The scope of such a module is gone in the backward pass. Its plain fields are not: `self.limit` is
read like any other Python value.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from vjpgen.compiler.check.backward import Code, at_part
from vjpgen.compiler.check.effects import ALWAYS, instead_of
from vjpgen.compiler.classes import resolved_path
from vjpgen.compiler.facts import Facts
from vjpgen.compiler.instances import Instance, instance_of
from vjpgen.compiler.references import Reference
from vjpgen.compiler.scopes import Found, Scope, look_up
from vjpgen.diagnostics import Diagnostic

# What only Flax modules have; an instance of an unknown class with these is one.
_TELLING = {
    *("get_variable", "put_variable", "has_variable", "is_mutable_collection"),
    *("make_rng", "has_rng", "sow", "perturb", "is_initializing"),
}
_SCOPED = _TELLING | {"variables", "param", "variable", "scope", "path"}
_LIFTED = ("vjp", "jvp", "grad", "value_and_grad", "cond", "switch", "while_loop")
_DEEPEST = 5

Use = tuple[ast.expr, str, str, str | None]
"""Where a module is used, how that reads, its name, and what helps if a snapshot does not."""


def check_captured(facts: Facts, rule: Reference, code: Code) -> Iterator[Diagnostic]:
    """Look at what the rule takes from the functions around it; one finding a module."""
    told: set[str] = set()
    for node, how, name, instead in _uses(code, frozenset()):
        if name in told:
            continue
        told.add(name)
        message = f"`{code.node.name}` uses {how}, which is not available in the backward pass"
        yield at_part(facts, rule, "VJP301", message, node, instead or _help(facts, rule, name))


def _help(facts: Facts, rule: Reference, name: str) -> str:
    around: Scope | None = facts.scope
    while around is not None and not around.is_class:
        around = around.parent
    residual = f"pass `vjpgen.snapshot({name})` as a residual"
    if around is None or not isinstance(rule.definition, ast.FunctionDef):
        return residual
    method = (
        f"make `{rule.definition.name}` a method of `{around.name}`, where `self` is a snapshot"
    )
    return f"{method}, or {residual}"


def _uses(code: Code, seen: frozenset[ast.AST]) -> Iterator[Use]:
    """Where the code, or a local function that it calls, uses a module's scope."""
    for node, found in code.captured():
        parent = code.parents.get(node)
        instance = instance_of(found)
        how = _use(node, parent, instance, code) if instance is not None else None
        if how is not None:
            place = parent if isinstance(parent, ast.Attribute) else node
            done = parent.attr if isinstance(parent, ast.Attribute) else ""
            yield place, how, node.id, instead_of(done) if done in ALWAYS else None
        elif instance is None and _is_variable(found) and isinstance(parent, ast.Attribute):
            if parent.attr == "value":
                how = f"the variable `{node.id}` of the enclosing method"
                yield node, how, node.id, _instead_of_variable(node.id, parent)
        elif isinstance(parent, ast.Call) and parent.func is node:
            yield from _through(node, found, seen)


def _use(node: ast.Name, parent: ast.AST | None, instance: Instance, code: Code) -> str | None:
    """How a module's name is used there, if its scope is needed for that."""
    if isinstance(parent, ast.Attribute):
        attribute = parent.attr
        if uses_scope(instance, attribute, isinstance(code.parents.get(parent), ast.Call)):
            return f"`{node.id}.{attribute}` of the enclosing function"
    elif isinstance(parent, ast.Call) and instance.sure:
        if parent.func is node:
            return f"the module `{node.id}` of the enclosing function"
        if _is_lifted(parent.func, code.scope) and node in parent.args:
            return f"the module `{node.id}` of the enclosing function"
    return None


def uses_scope(instance: Instance, attribute: str, called: bool, depth: int = 0) -> bool:
    """Whether an attribute of a module cannot be had without the module's scope."""
    if instance.sure and instance.set_up(attribute) is not None:
        return True
    method = instance.method(attribute)
    if method is not None:
        return called and instance.sure and _method_uses_scope(instance, method, depth)
    names = _SCOPED if instance.sure else _TELLING
    return attribute in names and not instance.defines(attribute)


def _method_uses_scope(instance: Instance, method: ast.FunctionDef, depth: int) -> bool:
    """Whether a method surely touches the scope: its own body says so of its `self`."""
    if instance.own is None or not method.args.args or depth > _DEEPEST:
        return False
    scope = Scope(method, instance.own, method.name)
    if any(resolved_path(d, scope) == "builtins.staticmethod" for d in method.decorator_list):
        return False
    code, own = Code(method, scope), method.args.args[0].arg
    for node, found in code.names():
        parent = code.parents.get(node)
        is_self = node.id == own and found.scope is not None and found.scope.node is method
        if is_self and isinstance(parent, ast.Attribute):
            called = isinstance(code.parents.get(parent), ast.Call)
            if uses_scope(instance, parent.attr, called, depth + 1):
                return True
    return False


def _through(node: ast.Name, found: Found, seen: frozenset[ast.AST]) -> Iterator[Use]:
    """The same in a function of the enclosing function that the rule calls."""
    helper = found.only.node if found.only is not None else None
    if not isinstance(helper, ast.FunctionDef) or helper in seen or found.scope is None:
        return
    inner = Code(helper, Scope(helper, found.scope, helper.name))
    for _, how, name, instead in _uses(inner, seen | {helper}):
        yield node, f"`{node.id}`, and so {how}", name, instead


def _is_variable(found: Found) -> bool:
    """Whether a name is bound to `module.variable(...)`."""
    binding = found.only
    made = binding.value if binding is not None else None
    if not isinstance(made, ast.Call) or not isinstance(made.func, ast.Attribute):
        return False
    holder = made.func.value
    if made.func.attr != "variable" or not isinstance(holder, ast.Name) or found.scope is None:
        return False
    module = look_up(holder.id, found.scope)
    instance = instance_of(module) if module is not None else None
    return instance is not None and instance.sure and not instance.defines("variable")


def _instead_of_variable(name: str, value: ast.Attribute) -> str:
    """What to do in place of reading a variable's value, or of writing it."""
    if isinstance(value.ctx, ast.Load):
        return f"read `{name}.value` outside of the rule, and use what that gave"
    return instead_of("put_variable")


def _is_lifted(func: ast.expr, scope: Scope) -> bool:
    """Whether this is `nn.vjp` or another transform that takes a module and uses its scope."""
    path = resolved_path(func, scope) or ""
    return path.startswith("flax.linen.") and path.rpartition(".")[2] in _LIFTED
