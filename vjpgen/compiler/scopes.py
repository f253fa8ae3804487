"""Scopes and what is bound in them, read from `ast` where a rule's name has to be looked up.

Only the scopes around annotated functions are read. A name's bindings are kept as the nodes that
bind it, since what a name stands for decides what may be said about it.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from vjpgen.compiler.values import dotted

ScopeNode = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
_NESTED = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda
_NAMED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_BLOCKS = ("finalbody", "orelse", "handlers", "cases", "body")
_LONGEST_QUOTED = 200
_COMPREHENSION = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


@dataclass(frozen=True, eq=False)
class Binding:
    """One place that binds a name.

    Args:
        node: the statement or expression that binds it: a `def`, a `class`, an import, the
            target's name, an argument.
        value: the expression assigned, where the name alone gets all of it.
        module: for an import, the dotted name that the binding stands for.
        is_module: whether it surely stands for a module (`import a`).
    """

    node: ast.AST
    value: ast.expr | None = None
    module: str | None = None
    is_module: bool = False

    @property
    def row(self) -> int:
        return getattr(self.node, "lineno", 0)


@dataclass(frozen=True, eq=False)
class Scope:
    """The module, a class body or a function body."""

    node: ScopeNode
    parent: Scope | None
    name: str
    _inner: dict[ast.AST, Scope] = field(default_factory=dict)

    def inner(self, node: ScopeNode, name: str) -> Scope:
        """The scope of a function or class that is defined in this one; always the same."""
        return self._inner.setdefault(node, Scope(node, self, name))

    @property
    def is_class(self) -> bool:
        return isinstance(self.node, ast.ClassDef)

    @property
    def is_module(self) -> bool:
        return isinstance(self.node, ast.Module)

    @property
    def qualname(self) -> str:
        """The dotted name that things defined here begin with, "" in the module."""
        if self.parent is None:
            return ""
        above = self.parent.qualname
        own = self.name if self.is_class else f"{self.name}.<locals>"
        return f"{above}.{own}" if above else own

    @cached_property
    def bindings(self) -> dict[str, list[Binding]]:
        """Every name bound in this scope, with its bindings in the order of the file.

        What an inner function binds by `global` or `nonlocal` comes last.
        """
        found: dict[str, list[Binding]] = {}
        for name, binding in _bindings(self.node):
            found.setdefault(name, []).append(binding)
        own = frozenset(found) - frozenset(self.declared)
        for name, binding in _bound_from_within(self.node):
            if self.is_module or name in own:
                found.setdefault(name, []).append(binding)
        return found

    @cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        """Every node of the scope's own code, in the order of the file."""
        return tuple(own_nodes(self.node))

    @cached_property
    def calls(self) -> dict[str, list[ast.Expr | ast.Assign]]:
        """The statements that are one call, `f(...)` or `x = f(...)`, by the names they mention."""
        found: dict[str, list[ast.Expr | ast.Assign]] = {}
        for node in self.nodes:
            if isinstance(node, ast.Expr | ast.Assign) and isinstance(node.value, ast.Call):
                parts = [node.value.func, *node.value.args]
                for name in {n.id for p in parts for n in ast.walk(p) if isinstance(n, ast.Name)}:
                    found.setdefault(name, []).append(node)
        return found

    @cached_property
    def declared(self) -> dict[str, str]:
        """Names declared `global` or `nonlocal` here."""
        declared: dict[str, str] = {}
        for node in self.nodes:
            if isinstance(node, ast.Global | ast.Nonlocal):
                kind = "global" if isinstance(node, ast.Global) else "nonlocal"
                declared.update(dict.fromkeys(node.names, kind))
        return declared

    @cached_property
    def unbound(self) -> frozenset[str]:
        """Names that some code in this scope takes away again."""
        found: set[str] = set()
        for node in ast.walk(self.node):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Del):
                found.add(node.id)
            elif isinstance(node, ast.ExceptHandler) and node.name is not None:
                found.add(node.name)
        return frozenset(found)

    @cached_property
    def declared_within(self) -> frozenset[str]:
        """Names that any code in this scope declares `global`."""
        declared = (n for n in statements(self.node.body) if isinstance(n, ast.Global))
        return frozenset(name for node in declared for name in node.names)

    @cached_property
    def is_open(self) -> bool:
        """Whether any code in this scope may bind names that it does not show."""
        return any(
            (isinstance(node, ast.Name) and node.id in ("globals", "exec"))
            or (isinstance(node, ast.ImportFrom) and node.names[0].name == "*")
            for node in ast.walk(self.node)
        )

    @property
    def has_star_import(self) -> bool:
        return "*" in self.bindings


@dataclass(frozen=True)
class Found:
    """A name that was looked up: the scope that binds it and its bindings.

    A name that only a star import, a builtin or `globals()` can provide has no scope.
    """

    scope: Scope | None
    bindings: tuple[Binding, ...] = field(default=())

    @property
    def only(self) -> Binding | None:
        """The binding, if there is exactly one."""
        return self.bindings[0] if len(self.bindings) == 1 else None


def look_up(name: str, scope: Scope) -> Found | None:
    """Look a name up as Python would for code that stands directly in `scope`."""
    here: Scope | None = scope
    while here is not None:
        declared = here.declared.get(name)
        if declared == "global":
            here = module_of(here)
        if name in here.bindings and declared != "nonlocal":
            return Found(here, tuple(here.bindings[name]))
        here = enclosing(here)
    return Found(None) if _provided_otherwise(name, module_of(scope)) else None


def enclosing(scope: Scope) -> Scope | None:
    """The next scope that a name is looked up in: class bodies are seen from within only."""
    parent = scope.parent
    while parent is not None and parent.is_class:
        parent = parent.parent
    return parent


def module_of(scope: Scope) -> Scope:
    while scope.parent is not None:
        scope = scope.parent
    return scope


def visible_names(scope: Scope) -> Iterator[str]:
    """Every name that can be looked up from a scope, builtins left out."""
    here: Scope | None = scope
    while here is not None:
        yield from here.bindings
        here = enclosing(here)


def own_nodes(node: ScopeNode) -> Iterator[ast.AST]:
    """Every node of a scope in the order of the file; nested scopes are not entered.

    What a nested scope evaluates outside (decorators, defaults, bases) is passed over as well:
    it can bind only by `:=`, which nobody writes there.
    """
    pending: list[ast.AST] = list(reversed(node.body))
    while pending:
        item = pending.pop()
        yield item
        if not isinstance(item, _NESTED):
            pending.extend(reversed(list(ast.iter_child_nodes(item))))


def statements(body: list[ast.stmt], closed: tuple[type[ast.stmt], ...] = ()) -> Iterator[ast.stmt]:
    """Every statement of a block and of the blocks in it; those in `closed` are not entered."""
    pending: list[ast.AST] = list(reversed(body))
    while pending:
        item = pending.pop()
        if isinstance(item, ast.stmt):
            yield item
        if not isinstance(item, closed):
            for name in _BLOCKS:
                pending.extend(reversed(getattr(item, name, ())))


def quoted_names(tree: ast.AST) -> set[str]:
    """The names in strings that read as expressions: in quoted annotations, in `__all__`."""
    names: set[str] = set()
    for node in ast.walk(tree):
        text = node.value if isinstance(node, ast.Constant) else None
        if not isinstance(text, str) or len(text) > _LONGEST_QUOTED:
            continue
        try:
            expression = ast.parse(text, mode="eval")
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        names.update(part.id for part in ast.walk(expression) if isinstance(part, ast.Name))
    return names


def is_for_type_checkers(node: ast.AST) -> bool:
    """Whether this is `if TYPE_CHECKING`, whose body no running program enters."""
    name = dotted(node.test) if isinstance(node, ast.If) else None
    return name is not None and name.rpartition(".")[2] == "TYPE_CHECKING"


def scoped_nodes(
    node: ast.AST, scope: Scope, hidden: frozenset[str] = frozenset()
) -> Iterator[tuple[ast.AST, Scope, frozenset[str]]]:
    """A node and all below it, each with the scope that it stands in.

    With each come the names that lambdas and comprehensions around it bind, which no scope has.
    """
    yield node, scope, hidden
    hidden |= own_names(node)
    inner = scope.inner(node, node.name) if isinstance(node, _NAMED) else scope
    for field_, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else (value,):
            if isinstance(child, ast.AST):
                yield from scoped_nodes(child, inner if field_ == "body" else scope, hidden)


def own_names(node: ast.AST) -> frozenset[str]:
    """The names that a lambda or a comprehension binds for itself."""
    if isinstance(node, ast.Lambda):
        return frozenset(item.arg for item in ast.walk(node.args) if isinstance(item, ast.arg))
    names: set[str] = set()
    for generator in getattr(node, "generators", ()):
        names.update(n.id for n in ast.walk(generator.target) if isinstance(n, ast.Name))
    return frozenset(names)


def _provided_otherwise(name: str, module: Scope) -> bool:
    if name in module.bindings or module.has_star_import or hasattr(builtins, name):
        return True
    if name in ("__file__", "__name__", "__doc__", "__spec__", "__loader__", "__package__"):
        return True
    return module.is_open or name in module.declared_within


def _bindings(node: ScopeNode) -> Iterator[tuple[str, Binding]]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        for argument in _arguments(node.args):
            yield argument.arg, Binding(argument)
    values: dict[int, ast.expr] = {}
    hidden: set[int] = set()
    for item in own_nodes(node):
        if isinstance(item, ast.Assign):
            values.update({id(t): item.value for t in item.targets if isinstance(t, ast.Name)})
        elif isinstance(item, ast.AnnAssign):
            if item.value is None:
                hidden.add(id(item.target))
            else:
                values[id(item.target)] = item.value
        elif isinstance(item, _COMPREHENSION):
            for generator in item.generators:
                hidden.update(id(part) for part in ast.walk(generator.target))
        if id(item) not in hidden:
            yield from _bound_by(item, values)


def _bound_from_within(node: ScopeNode) -> Iterator[tuple[str, Binding]]:
    """What the scopes inside one declare `global` (for the module) or `nonlocal`, and bind."""
    if isinstance(node, ast.ClassDef):
        return
    declares = ast.Global if isinstance(node, ast.Module) else ast.Nonlocal
    for inner in statements(node.body):
        if not isinstance(inner, _NAMED):
            continue
        names = {
            name
            for item in statements(inner.body, _NAMED)
            if isinstance(item, declares)
            for name in item.names
        }
        if names:
            yield from ((name, binding) for name, binding in _bindings(inner) if name in names)


def _bound_by(item: ast.AST, values: dict[int, ast.expr]) -> Iterator[tuple[str, Binding]]:
    match item:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name, Binding(item)
        case ast.Import(names=names):
            for alias in names:
                top = alias.name.split(".")[0]
                module = alias.name if alias.asname else top
                yield alias.asname or top, Binding(item, module=module, is_module=True)
        case ast.ImportFrom(names=names, module=module, level=level):
            prefix = "." * level + (module or "")
            for alias in names:
                dotted = f"{prefix}.{alias.name}" if module else prefix + alias.name
                yield alias.asname or alias.name, Binding(item, module=dotted)
        case ast.Name(id=name, ctx=ast.Store()):
            yield name, Binding(item, value=values.get(id(item)))
        case ast.ExceptHandler(name=str(name)):
            yield name, Binding(item)
        case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield name, Binding(item)
        case ast.MatchMapping(rest=str(name)):
            yield name, Binding(item)
        case _:
            pass


def _arguments(args: ast.arguments) -> Iterator[ast.arg]:
    yield from (*args.posonlyargs, *args.args)
    if args.vararg:
        yield args.vararg
    yield from args.kwonlyargs
    if args.kwarg:
        yield args.kwarg
