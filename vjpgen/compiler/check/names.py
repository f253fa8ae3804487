"""VJP101, VJP102: what the rule's names stand for."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from vjpgen.compiler.classes import resolved_path
from vjpgen.compiler.facts import Facts
from vjpgen.compiler.instances import declared_fields
from vjpgen.compiler.references import Reference, free_names
from vjpgen.compiler.report import nearest
from vjpgen.compiler.scopes import (
    Found,
    Scope,
    is_for_type_checkers,
    look_up,
    module_of,
    own_nodes,
    statements,
    visible_names,
)
from vjpgen.compiler.values import KEYS, dotted
from vjpgen.diagnostics import Diagnostic

_NO_FUNCTION = {
    ast.Constant: "a constant",
    ast.JoinedStr: "a string",
    ast.Tuple: "a tuple",
    ast.List: "a list",
    ast.Dict: "a dict",
    ast.Set: "a set",
    ast.ListComp: "a list",
    ast.DictComp: "a dict",
    ast.SetComp: "a set",
    ast.GeneratorExp: "a generator",
    ast.Compare: "a truth value",
}
_OTHER_MEANS = ("setattr", "locals", "vars", "exec")


def check_names(facts: Facts) -> Iterator[Diagnostic]:
    """Names that are bound nowhere, and names of things that are no functions."""
    for reference in facts.references():
        undefined = [*_undefined(facts, reference), *_later_in_class(facts, reference)]
        yield from undefined
        what = None if undefined else _not_a_function(reference)
        if what is not None:
            key = reference.key
            yield _finding(
                facts,
                "VJP102",
                reference,
                f"`{key.text}` is {what}, not a function",
                "name a `def`",
            )
    yield from _undefined_in_filter(facts)


def _undefined_in_filter(facts: Facts) -> Iterator[Diagnostic]:
    """Names in the filter of `grad_vars`, which is evaluated where the annotation stands."""
    key = facts.annotation.keys.get("grad_vars")
    names = free_names(key.value) if key is not None and isinstance(key.value, ast.expr) else ()
    for name in names:
        if key is not None and look_up(name, facts.scope) is None:
            message = f"`grad_vars`: `{name}` is not defined where the annotation stands"
            help_ = KEYS["grad_vars"].help
            yield Diagnostic("VJP007", message, facts.source.filename, key.span, help_)


def _undefined(facts: Facts, reference: Reference) -> Iterator[Diagnostic]:
    for name in reference.undefined:
        message = f"`{name}` is not defined where the annotation stands"
        yield _finding(facts, "VJP101", reference, message, _instead(facts, reference, name))
    if reference.found is not None and _is_for_type_checkers(reference.found):
        yield _finding(
            facts,
            "VJP101",
            reference,
            f"`{reference.key.text}` is imported for type checkers alone, and is not there when"
            " the program runs",
            "import it outside of `if TYPE_CHECKING:`",
        )
    missing = _missing_attribute(facts, reference)
    if missing is not None:
        owner, name, known = missing
        guess = nearest(name, known)
        yield _finding(
            facts,
            "VJP101",
            reference,
            f"the class `{owner}` has no `{name}`",
            f"did you mean `{owner}.{guess}`?" if guess else f"define `{name}` in `{owner}`",
        )


def _instead(facts: Facts, reference: Reference, name: str) -> str:
    """What to write in place of an undefined name."""
    own, _, attribute = (reference.name or "").partition(".")
    if facts.scope.is_class and own in ("self", "cls") and attribute in facts.scope.bindings:
        return f"write `{attribute}`: names of the class body are seen from here"
    if name in declared_fields(facts.scope):
        return (
            f"`{name}` is a field, which each instance has: write a method that calls `self.{name}`"
            " and name it here"
        )
    owner = _class_that_binds(facts.scope, name)
    if owner is not None:
        return f"a function in a method does not see the class body: write `{owner}.{name}`"
    guess = nearest(name, visible_names(facts.scope))
    if guess is not None and guess != facts.node.name:
        return f"did you mean `{guess}`?"
    base = _unknown_base(facts.scope)
    if base is not None:
        return (
            f"define `{name}` or import it; if `{base}` has it, write `{name} = {base}.{name}`"
            " in the class body"
        )
    return f"define `{name}` or import it"


def _unknown_base(scope: Scope) -> str | None:
    """The first base of a class that is none of Flax's own, and may hold a rule."""
    for base in scope.node.bases if isinstance(scope.node, ast.ClassDef) else ():
        path = resolved_path(base, scope) or ""
        if not path.startswith(("flax.", "builtins.", "abc.", "typing.")):
            return dotted(base)
    return None


def _is_for_type_checkers(found: Found) -> bool:
    """Whether all that binds a name stands under `if TYPE_CHECKING`."""
    if found.scope is None or not found.bindings:
        return False
    blocks = [n for n in statements(found.scope.node.body) if is_for_type_checkers(n)]
    inner = {n for block in blocks if isinstance(block, ast.If) for n in statements(block.body)}
    return all(binding.node in inner for binding in found.bindings)


def _class_that_binds(scope: Scope, name: str) -> str | None:
    """The class around a scope whose body binds a name, which cannot be seen from within."""
    here = scope.parent
    while here is not None:
        if here.is_class and name in here.bindings:
            return here.name
        here = here.parent
    return None


def _missing_attribute(facts: Facts, reference: Reference) -> tuple[str, str, list[str]] | None:
    """The attribute that a plain class of this file does not have."""
    only = reference.found.only if reference.found else None
    parts = (reference.name or "").split(".")
    if only is None or len(parts) != 2 or not isinstance(only.node, ast.ClassDef):
        return None
    node = only.node
    if node.bases or node.keywords or node.decorator_list:
        return None
    known = list(Scope(node, None, node.name).bindings)
    if parts[1] in known or parts[1].startswith("__"):
        return None
    if _may_be_given(node, parts[1], module_of(facts.scope).node):
        return None
    return parts[0], parts[1], known


def _may_be_given(node: ast.ClassDef, name: str, module: ast.AST) -> bool:
    """Whether a class may get an attribute from elsewhere than the names its body binds.

    It may where such an attribute is set on anything, where the class is handed on, and where
    its body reaches for itself by other means than names.
    """
    plain: set[int] = set()
    for item in ast.walk(module):
        if isinstance(item, ast.Attribute):
            if item.attr == name and isinstance(item.ctx, ast.Store):
                return True
            plain.add(id(item.value))
        elif isinstance(item, ast.Call):
            plain.add(id(item.func))
        elif isinstance(item, ast.ClassDef):
            plain.update(id(base) for base in item.bases)
        elif isinstance(item, ast.arg | ast.AnnAssign) and item.annotation is not None:
            plain.add(id(item.annotation))
        elif isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef) and item.returns is not None:
            plain.add(id(item.returns))
    names = [item for item in ast.walk(module) if isinstance(item, ast.Name)]
    if any(item.id == node.name and id(item) not in plain for item in names):
        return True
    return any(isinstance(i, ast.Name) and i.id in _OTHER_MEANS for i in ast.walk(node))


def _later_in_class(facts: Facts, reference: Reference) -> Iterator[Diagnostic]:
    """An expression is evaluated right below the method, where it sees what stands above."""
    end = facts.node.end_lineno or facts.node.lineno
    for name in reference.captures:
        bindings = facts.scope.bindings.get(name, [])
        if bindings and all(binding.row > end for binding in bindings):
            yield _finding(
                facts,
                "VJP101",
                reference,
                f"`{name}` is bound in the class body only below the method",
                f"move `{name}` above the method, or give the rule by its plain name",
            )


def _not_a_function(reference: Reference) -> str | None:
    """What the value is instead of a function, where the file shows it."""
    binding = reference.binding
    if binding is None:
        return None
    if binding.is_module and isinstance(reference.expression, ast.Name):
        return f"the module `{binding.module}`"
    what = _NO_FUNCTION.get(type(binding.value))
    if what is not None:
        return what
    node = reference.definition
    if isinstance(node, ast.AsyncFunctionDef):
        return "a coroutine function"
    if isinstance(node, ast.FunctionDef):
        if "property" in reference.decorators:
            return "a property"
        if any(isinstance(item, ast.Yield | ast.YieldFrom) for item in own_nodes(node)):
            return None if any(reference.decorators) else "a generator"
    return None


def _finding(facts: Facts, code: str, reference: Reference, message: str, help_: str) -> Diagnostic:
    key = reference.key
    return Diagnostic(code, f"`{key.name}`: {message}", facts.source.filename, key.span, help_)
