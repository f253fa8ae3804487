"""From facts to what a template is filled with: names, and the arguments of `lift` as text."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from vjpgen.compiler.captured import captured_names
from vjpgen.compiler.facts import Facts
from vjpgen.compiler.imports import Redirection
from vjpgen.compiler.references import Reference
from vjpgen.compiler.result import Options
from vjpgen.compiler.scopes import Scope
from vjpgen.compiler.targets import Target
from vjpgen.compiler.text import literal, render, string

_DATA = ("nondiff_argnums", "nondiff_argnames", "exact", "surrogate", "zero", "state")


@dataclass(frozen=True)
class Lowered:
    """One annotated function, ready to fill a template.

    Args:
        template: the template's file name.
        function: the function's name.
        parameters: its parameters in the order of the signature.
        in_class: whether it stands in a class body.
        has_fwd: whether the annotation gives a forward rule.
        has_nondiff: whether any argument is nondiff.
        captured: the captured values that it is given by name.
        arguments: what `lift` is given, by keyword, as expressions.
    """

    template: str
    function: str
    parameters: tuple[str, ...]
    in_class: bool
    has_fwd: bool
    has_nondiff: bool
    captured: tuple[str, ...]
    arguments: dict[str, str]


def lower(facts: Facts, target: Target, options: Options, redirection: Redirection) -> Lowered:
    """Say what the generated function is made of."""
    return Lowered(
        template=target.template,
        function=facts.node.name,
        parameters=_parameters(facts),
        in_class=facts.scope.is_class,
        has_fwd=facts.fwd is not None,
        has_nondiff=facts.has_nondiff,
        captured=captured_names(facts),
        arguments=_arguments(facts, target, options, redirection),
    )


def _parameters(facts: Facts) -> tuple[str, ...]:
    """The parameters; names that a type checker takes for positional-only need a `/`."""
    names = facts.signature.names
    private = any(name.startswith("__") and not name.endswith("__") for name in names)
    return (*names, "/") if private else names


def _arguments(
    facts: Facts, target: Target, options: Options, redirection: Redirection
) -> dict[str, str]:
    arguments = {
        "name": string(facts.qualname),
        "at": string(f"{options.origin}:{facts.annotation.row}"),
        "target": string(target.name if facts.is_method else "function"),
    }
    for reference in facts.references():
        arguments[reference.key.name] = _thunk(reference, facts.scope, redirection)
    missing = facts.value("missing") or options.missing
    if isinstance(missing, str):
        arguments["missing"] = string(missing)
    collections = facts.value("grad_vars")
    if isinstance(collections, ast.expr):
        arguments["grad_vars"] = render(redirection.expression(collections, facts.scope))
    for key in _DATA:
        value = facts.value(key)
        if value is True or (isinstance(value, tuple) and value):
            arguments[key] = literal(value)
    for key in ("symbolic_zeros", "optimize_remat"):
        if facts.value(key):
            arguments[key] = "True"
    if arguments.get("grad_vars") == '"params"':
        del arguments["grad_vars"]
    return arguments


def _thunk(reference: Reference, scope: Scope, redirection: Redirection) -> str:
    """A rule as `lift` takes it: looked up when it is needed, so that it may be defined later.

    A function in a class body cannot see the class body's names; a rule that is one of them is
    given by name, and an expression takes them as defaults of the lambda.
    """
    if reference.in_class and isinstance(reference.expression, ast.Name):
        return string(_mangled(reference.expression.id, scope.name))
    captures = ", ".join(f"{name}={name}" for name in reference.captures)
    value = render(redirection.expression(reference.expression, scope))
    return f"lambda {captures}: {value}" if captures else f"lambda: {value}"


def _mangled(name: str, class_name: str) -> str:
    """The attribute that a name in a class body becomes."""
    private = name.startswith("__") and not name.endswith("__") and class_name.strip("_")
    return f"_{class_name.lstrip('_')}{name}" if private else name
