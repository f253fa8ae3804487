"""What the names in `fwd`, `bwd` and `example` stand for.

Looked up as Python would where the annotation stands: for a method the class body, then the
functions around the class, then the module; for a nested function the functions around it, then
the module.
"""

from __future__ import annotations

import ast
import symtable
from dataclasses import dataclass

from vjpgen.compiler.annotations import Key
from vjpgen.compiler.scopes import Binding, Found, Scope, look_up
from vjpgen.compiler.signature import Signature, signature_of
from vjpgen.compiler.values import dotted

# Decorators that leave a function's parameters as they are.
SAME_SIGNATURE = (
    *("staticmethod", "cache", "lru_cache"),
    *("compact", "nowrap", "named_call", "jit", "remat", "checkpoint"),
)
Callable_ = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


@dataclass(frozen=True)
class Reference:
    """A rule's value, looked up.

    Args:
        key: the annotation's key.
        expression: its value.
        name: the value as a dotted name, if it is one.
        found: what the name, or the first part of a dotted one, is bound to.
        in_class: whether the value is a plain name that the annotated method's own class binds.
        captures: names of the class body that the value uses, where it is no plain name.
        undefined: names in the value that are bound nowhere.
        binding: the one binding that the whole value stands for, if the file shows it.
    """

    key: Key
    expression: ast.expr
    name: str | None
    found: Found | None
    in_class: bool
    captures: tuple[str, ...]
    undefined: tuple[str, ...]
    binding: Binding | None

    @property
    def definition(self) -> Callable_ | None:
        """The `def` or `lambda` behind the value, if the file shows exactly one."""
        if isinstance(self.expression, ast.Lambda):
            return self.expression
        if self.binding is None:
            return None
        node = self.binding.node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return node
        return self.binding.value if isinstance(self.binding.value, ast.Lambda) else None

    @property
    def decorators(self) -> tuple[str, ...]:
        """The decorators of that `def`, as written; "" for one that is no dotted name."""
        node = self.definition
        listed = [] if node is None or isinstance(node, ast.Lambda) else node.decorator_list
        return tuple(dotted(decorator) or "" for decorator in listed)

    @property
    def is_static(self) -> bool:
        return "staticmethod" in self.decorators

    @property
    def signature(self) -> Signature | None:
        """Its parameters, where no decorator can have changed them."""
        node = self.definition
        unsure = any(name.rpartition(".")[2] not in SAME_SIGNATURE for name in self.decorators)
        if node is None or unsure:
            return None
        return signature_of(node.args)


def resolve(key: Key, scope: Scope) -> Reference:
    """Look up a rule's value for a function that is defined directly in `scope`."""
    node = key.node
    name = dotted(node)
    names = free_names(node)
    found = {name: look_up(name, scope) for name in names}
    first = found.get(name.split(".")[0]) if name else None
    in_body = [
        name
        for name, what in found.items()
        if scope.is_class and what is not None and what.scope is scope
    ]
    in_class = isinstance(node, ast.Name) and bool(in_body)
    return Reference(
        key=key,
        expression=node,
        name=name,
        found=first,
        in_class=in_class,
        captures=() if in_class else tuple(in_body),
        undefined=tuple(name for name, what in found.items() if what is None),
        binding=_binding(name, first),
    )


def free_names(node: ast.expr) -> list[str]:
    """The names that an expression takes from around it, in alphabetical order."""
    if isinstance(node, ast.Name):
        return [node.id]
    table = symtable.symtable(ast.unparse(node), "<annotation>", "eval")
    names = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_referenced()}
    pending = list(table.get_children())
    while pending:
        child = pending.pop()
        pending.extend(child.get_children())
        names.update(s.get_name() for s in child.get_symbols() if s.is_global())
    return sorted(name for name in names if not name.startswith("."))


def _binding(name: str | None, found: Found | None) -> Binding | None:
    """The single binding that a dotted name ends at: a name's, or a class attribute's."""
    if name is None or found is None:
        return None
    binding = found.only
    for part in name.split(".")[1:]:
        if binding is None or not isinstance(binding.node, ast.ClassDef):
            return None
        inner = Scope(binding.node, found.scope, binding.node.name).bindings.get(part, [])
        binding = inner[0] if len(inner) == 1 else None
    return binding
