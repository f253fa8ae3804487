"""The code that a rule runs, as far as the file shows it, and what it takes from around it.

    def loss(params, scale):
        def scaled(t):                     <- reached through the backward rule
            return scale * t

        def bwd(vjp_fn, y_t):              <- reached by the annotation
            return vjp_fn(scaled(y_t))

        # custom-vjp: bwd=bwd
        def f(x): ...                      <- the primal

The rule of `f` takes `scale` from the function around it, and nothing else: what a `def`, a class
or a lambda is bound to counts by the names that it uses itself. A function that goes by another
name (`g = scaled`, `g = jax.jit(scaled)`, `table = [scaled]`), the wrapper that a local decorator
puts around one, a default and a method of the rule's own class are followed likewise.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from weakref import WeakKeyDictionary

from vjpgen.compiler.classes import resolved_path
from vjpgen.compiler.facts import Facts
from vjpgen.compiler.references import Reference, free_names
from vjpgen.compiler.scopes import (
    Binding,
    Found,
    Scope,
    ScopeNode,
    look_up,
    scoped_nodes,
    statements,
)

_FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef
_CODE = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda
_CLOSED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_WRAPPERS = (
    *("functools.partial", "functools.cache", "functools.lru_cache", "jax.tree_util.Partial"),
    *("jax.jit", "jax.vmap", "jax.checkpoint", "jax.remat", "jax.named_call", "jax.custom_jvp"),
    *("jax.grad", "jax.value_and_grad"),
)  # what they make runs the function that they are given; they themselves do not
_NO_VALUE = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom


@dataclass(frozen=True, eq=False)
class Part:
    """A function, lambda or class of the file whose code a rule can run.

    Args:
        node: its node.
        scope: the scope that it is defined in.
    """

    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda
    scope: Scope

    @cached_property
    def nodes(self) -> tuple[tuple[ast.AST, Scope, frozenset[str]], ...]:
        """Every node of its body with the scope and the hidden names that it stands in."""
        if isinstance(self.node, ast.Lambda):
            return tuple(scoped_nodes(self.node, self.scope))
        inner = self.scope.inner(self.node, self.node.name)
        return tuple(item for child in self.node.body for item in scoped_nodes(child, inner))


@dataclass
class Reach:
    """What a rule's code reaches.

    Args:
        around: the scopes around the annotated function, but for the module's.
        parts: the rule's code, the primal first.
        values: what it takes from functions around: names with their bindings, by the function
            that binds them, as two may bind one name.
    """

    around: dict[ast.AST, Scope]
    parts: list[Part] = field(default_factory=list)
    values: dict[tuple[ScopeNode, str], Found] = field(default_factory=dict)


def reach(facts: Facts) -> Reach:
    """Follow the code of one rule: the primal, its rules, and the local functions they use."""
    if facts not in _REACHED:
        _REACHED[facts] = _reach(facts)
    return _REACHED[facts]


_REACHED: WeakKeyDictionary[Facts, Reach] = WeakKeyDictionary()


def _reach(facts: Facts) -> Reach:
    walk = _Walk(Reach({scope.node: scope for scope in _around(facts.scope)}))
    if not any(isinstance(node, _FUNCTION) for node in walk.result.around):
        return walk.result
    walk.part(facts.node, facts.scope)
    walk.rules(facts)
    for part in walk.result.parts:  # grows on the way
        walk.head(part)
        for node, scope, hidden in part.nodes:
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                if node.id not in hidden:
                    walk.name(node.id, scope)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                walk.attribute(node, scope)
            elif isinstance(node, _FUNCTION) and node in facts.annotated:
                walk.rules(facts.annotated[node])
    return walk.result


def _around(scope: Scope) -> Iterator[Scope]:
    here: Scope | None = scope
    while here is not None and not here.is_module:
        yield here
        here = here.parent


@dataclass
class _Walk:
    result: Reach
    seen: set[ast.AST] = field(default_factory=set)

    def part(self, node: ast.AST, scope: Scope) -> None:
        """Take in a definition, once."""
        if isinstance(node, _CODE) and node not in self.seen:
            self.seen.add(node)
            self.result.parts.append(Part(node, scope))

    def head(self, part: Part) -> None:
        """Follow what a definition takes in above its body: defaults, decorators."""
        if not isinstance(part.node, ast.ClassDef):
            for default in (*part.node.args.defaults, *part.node.args.kw_defaults):
                self._value(default, part.scope)
        for decorator in getattr(part.node, "decorator_list", ()):
            self._decorator(decorator, part.scope)

    def rules(self, facts: Facts) -> None:
        """Follow the rules of an annotated function."""
        for reference in (facts.fwd, facts.bwd):
            if reference is not None:
                self._reference(reference, facts.scope)

    def _reference(self, reference: Reference, scope: Scope) -> None:
        """Follow a rule; what a plain name stands for is the rule, and no value that it takes."""
        expression = reference.expression
        if isinstance(expression, ast.Name):
            found = look_up(expression.id, scope)
            if found is not None:
                self._definitions(found)
        elif isinstance(expression, ast.Lambda):
            self.part(expression, scope)
        else:
            if reference.found is not None and reference.found.scope is not None:
                self._definitions(reference.found)
            for name in free_names(expression):
                self.name(name, scope)

    def name(self, name: str, scope: Scope) -> None:
        """Follow a name that code in `scope` uses."""
        found = look_up(name, scope)
        if found is None or found.scope is None:
            return
        self._definitions(found)
        owner = found.scope.node
        captured = owner in self.result.around and isinstance(owner, _FUNCTION)
        if captured and all(_is_value(binding) for binding in found.bindings):
            self.result.values[owner, name] = found

    def attribute(self, node: ast.Attribute, scope: Scope) -> None:
        """Follow `self.method` in a method of a class around the annotated function."""
        found = look_up(node.value.id, scope) if isinstance(node.value, ast.Name) else None
        if found is None or found.scope is None or found.scope.parent is None:
            return
        method, owner = found.scope.node, found.scope.parent
        if isinstance(method, _FUNCTION) and owner.node in self.result.around and owner.is_class:
            first = (*method.args.posonlyargs, *method.args.args)[:1]
            if found.only is not None and found.only.node in first:
                self._definitions(Found(owner, tuple(owner.bindings.get(node.attr, ()))))

    def _definitions(self, found: Found) -> None:
        """Follow the functions and classes that a name around is bound to."""
        for binding, scope in self._local(found):
            self.part(binding.node, scope)
            self._value(binding.value, scope)

    def _local(self, found: Found | None) -> Sequence[tuple[Binding, Scope]]:
        """What a name is bound to around the annotated function, with the scope.

        Elsewhere it is of the module, with nothing to capture, or inside of code that is read
        anyway.
        """
        scope = found.scope if found is not None else None
        if found is None or scope is None or scope.node not in self.result.around:
            return ()
        return [(binding, scope) for binding in found.bindings]

    def _value(self, value: ast.AST | None, scope: Scope) -> None:
        """Follow the functions that an expression stands for, or puts into what it makes."""
        pending = [(value, scope)]
        while pending:
            item, here = pending.pop()
            if isinstance(item, ast.Lambda):
                self.part(item, here)
            elif isinstance(item, ast.Name) and item not in self.seen:
                self.seen.add(item)
                for binding, owner in self._local(look_up(item.id, here)):
                    self.part(binding.node, owner)
                    pending.append((binding.value, owner))
            else:
                pending += [(part, here) for part in _handed_on(item, here)]

    def _decorator(self, decorator: ast.expr, scope: Scope) -> None:
        """Follow the wrappers that a local decorator makes; it has itself run by then."""
        found = look_up(decorator.id, scope) if isinstance(decorator, ast.Name) else None
        for binding, owner in self._local(found):
            if isinstance(binding.node, _FUNCTION):
                inner = owner.inner(binding.node, binding.node.name)
                for statement in statements(binding.node.body, _CLOSED):
                    self.part(statement, inner)


def _handed_on(value: ast.AST | None, scope: Scope) -> Sequence[ast.expr | None]:
    """The parts of an expression that are, or are called by, what it gives."""
    match value:
        case ast.IfExp(body=body, orelse=orelse):
            return body, orelse
        case ast.Tuple(elts=parts) | ast.List(elts=parts) | ast.Set(elts=parts):
            return parts
        case ast.Dict(values=parts):
            return parts
        case ast.Call(func=func, args=parts) if resolved_path(func, scope) in _WRAPPERS:
            return parts
        case _:
            return ()


def _is_value(binding: Binding) -> bool:
    """Whether a binding gives a name a value, which may be anything."""
    return not isinstance(binding.node, _NO_VALUE) and not isinstance(binding.value, ast.Lambda)
