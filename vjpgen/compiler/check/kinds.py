"""VJP206, VJP207: functions that cannot carry a rule, or carry one already."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from vjpgen.compiler.classes import class_kind, resolved_path
from vjpgen.compiler.facts import Facts
from vjpgen.compiler.report import at_node
from vjpgen.compiler.scopes import own_nodes
from vjpgen.compiler.values import dotted
from vjpgen.diagnostics import Diagnostic

_REFUSED = {
    "property": "a property",
    "cached_property": "a property",
    "abstractproperty": "a property",
    "setter": "a property",
    "getter": "a property",
    "deleter": "a property",
    "classmethod": "a class method",
    "abstractclassmethod": "a class method",
    "overload": "an overload",
}
_MAKERS = ("__init__", "__new__", "__post_init__", "__init_subclass__", "__setup__")
_RULES = ("custom_vjp", "custom_jvp", "custom_gradient")
_DEFINES = ("defvjp", "defjvp", "defjvps")


def check_kind(facts: Facts) -> Iterator[Diagnostic]:
    """The kinds of function whose call is not one call of arrays to arrays."""
    kind, help_ = _kind(facts)
    if kind is not None:
        message = f"`{facts.qualname}` is {kind}, which cannot carry a rule"
        yield at_node(facts.source, "VJP206", message, facts.node, help_)


def check_other_rules(facts: Facts) -> Iterator[Diagnostic]:
    """A decorator, or an assignment further down, that gives the function a rule of its own."""
    name = facts.node.name
    help_ = "keep the one or the other"
    for _, node in facts.decorators:
        path = _rule_path(facts, node)
        if path is not None:
            message = f"`{name}` already carries a rule: it is decorated with `{path}`"
            yield at_node(facts.source, "VJP207", message, node, help_)
    for node in _later_rules(facts):
        message = f"`{name}` already carries a rule: this line gives it another"
        yield at_node(facts.source, "VJP207", message, node, help_)


def _kind(facts: Facts) -> tuple[str | None, str | None]:
    if isinstance(facts.node, ast.AsyncFunctionDef):
        return "a coroutine function", "make it a plain `def`"
    for called, _ in facts.decorators:
        kind = _REFUSED.get(called.rpartition(".")[2])
        if kind is not None:
            return kind, "put the rule on a plain function or method that it calls"
    if facts.is_method and _makes_instances(facts):
        return "what makes an instance", "put the rule on a method that computes arrays"
    if any(isinstance(node, ast.Yield | ast.YieldFrom) for node in own_nodes(facts.node)):
        return "a generator", "return the values instead of yielding them"
    return None, None


def _makes_instances(facts: Facts) -> bool:
    """Whether a method runs when its module is made or set up, and not to compute anything."""
    name = facts.node.name
    return name in _MAKERS or (name == "setup" and class_kind(facts.scope) == "linen")


def _rule_path(facts: Facts, node: ast.expr) -> str | None:
    """The dotted name of `custom_vjp` and the like, plain, called or in a `partial`."""
    candidates = [node]
    if isinstance(node, ast.Call):
        candidates = [node.func, *node.args[:1]]
    for candidate in candidates:
        path = resolved_path(candidate, facts.scope) or dotted(candidate) or ""
        if path.rpartition(".")[2] in _RULES:
            return dotted(candidate)
    return None


def _later_rules(facts: Facts) -> Iterator[ast.stmt]:
    """`f.defvjp(...)` and `f = jax.custom_vjp(f)` in the scope of the function."""
    name = facts.node.name
    bindings = facts.scope.bindings.get(name, [])
    if sum(isinstance(binding.node, ast.FunctionDef) for binding in bindings) != 1:
        return
    own_definers = {f"{name}.{method}" for method in _DEFINES}
    for node in facts.scope.calls.get(name, ()):
        assert isinstance(node.value, ast.Call)
        func, args = node.value.func, node.value.args
        if isinstance(node, ast.Assign):
            targets = [dotted(target) for target in node.targets]
            wraps = bool(args) and dotted(args[0]) == name and name in targets
            if wraps and _rule_path(facts, func) is not None:
                yield node
        elif isinstance(func, ast.Attribute) and dotted(func) in own_definers:
            yield node
