"""Which names stand for Flax Linen modules, as far as the file shows it."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from vjpgen.compiler.classes import annotation_kind, class_kind, resolved_path
from vjpgen.compiler.scopes import Binding, Found, Scope, look_up, own_nodes
from vjpgen.compiler.values import dotted

LAYERS = {
    *("BatchNorm", "Bidirectional", "Conv", "ConvLSTMCell", "ConvLocal", "ConvTranspose", "Dense"),
    *("DenseGeneral", "Dropout", "Einsum", "Embed", "GRUCell", "GroupNorm", "InstanceNorm"),
    *("LSTMCell", "LayerNorm", "MGUCell", "MultiHeadAttention", "MultiHeadDotProductAttention"),
    *("OptimizedLSTMCell", "PReLU", "RMSNorm", "RNN", "SelfAttention", "Sequential", "SimpleCell"),
    *("SpectralNorm", "WeightNorm"),
}
"""The layers of `flax.linen`."""

_METHOD = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Instance:
    """A name's module.

    Args:
        own: the body of its class, if the file has it.
        sure: whether its class is surely a Linen module.
    """

    own: Scope | None
    sure: bool = True

    def defines(self, name: str) -> bool:
        """Whether the class body itself gives this name a meaning."""
        return self.own is not None and (
            name in self.own.bindings or name in declared_fields(self.own)
        )

    def method(self, name: str) -> ast.FunctionDef | None:
        """The method of this name, if the class body has just one."""
        found = self.own.bindings.get(name, []) if self.own is not None else []
        node = found[0].node if len(found) == 1 else None
        return node if isinstance(node, ast.FunctionDef) else None

    def set_up(self, name: str) -> ast.expr | None:
        """What `setup` assigns to `self.<name>`, where the class body shows that it does."""
        setup = self.method("setup")
        if setup is None or not setup.args.args:
            return None
        own = setup.args.args[0].arg
        wanted = f"{own}.{name}"
        assignments = (node for node in own_nodes(setup) if isinstance(node, ast.Assign))
        return next((n.value for n in assignments if wanted in map(dotted, n.targets)), None)


def instance_of(found: Found) -> Instance | None:
    """The module that a looked-up name stands for; None where it need not be one."""
    binding = found.only
    if binding is None or found.scope is None:
        return None
    if isinstance(binding.node, ast.arg):
        return _parameter(binding.node, found.scope)
    return _value(binding, found.scope) if _is_linen_method(found.scope) else None


def layer_made_by(node: ast.expr, scope: Scope) -> str | None:
    """The layer that an expression makes an instance of: one of Flax's, or a compact one here."""
    if not isinstance(node, ast.Call):
        return None
    path = resolved_path(node.func, scope) or ""
    name = path.removeprefix("flax.linen.")
    if path != name and name in LAYERS:
        return name
    own = _local_class(node.func, scope)
    if own is None or class_kind(own) != "linen":
        return None
    call = Instance(own).method("__call__")
    compact = any(
        resolved_path(decorator, own) == "flax.linen.compact"
        for decorator in (call.decorator_list if call is not None else ())
    )
    return own.name if compact else None


def _parameter(argument: ast.arg, function: Scope) -> Instance | None:
    """The enclosing method's `self`, or a parameter that is annotated with a module's class."""
    node, around = function.node, function.parent
    assert isinstance(node, _METHOD)
    positional = [*node.args.posonlyargs, *node.args.args]
    static = any(resolved_path(d, function) == "builtins.staticmethod" for d in node.decorator_list)
    if around is not None and around.is_class and positional[:1] == [argument] and not static:
        if any(resolved_path(d, function) == "builtins.classmethod" for d in node.decorator_list):
            return None
        kind = class_kind(around)
        return Instance(around, kind == "linen") if kind in ("linen", "unknown") else None
    if annotation_kind(argument.annotation, function) != "linen":
        return None
    own = _local_class(argument.annotation, function) if argument.annotation else None
    return Instance(own)


def _value(binding: Binding, scope: Scope) -> Instance | None:
    """A layer made in a method, or one that `setup` made."""
    value = binding.value
    if value is None:
        return None
    if layer_made_by(value, scope) is not None:
        assert isinstance(value, ast.Call)
        return Instance(_local_class(value.func, scope))
    if isinstance(value, ast.Attribute) and isinstance(value.value, ast.Name):
        holder = look_up(value.value.id, scope)
        instance = instance_of(holder) if holder is not None else None
        made = instance.set_up(value.attr) if instance is not None else None
        if instance is not None and instance.own is not None and made is not None:
            return Instance(None) if layer_made_by(made, instance.own) is not None else None
    return None


def _local_class(node: ast.expr, scope: Scope) -> Scope | None:
    """The body of the class that a plain name stands for, if this file defines it."""
    found = look_up(node.id, scope) if isinstance(node, ast.Name) else None
    binding = found.only if found is not None else None
    if found is None or found.scope is None or binding is None:
        return None
    if not isinstance(binding.node, ast.ClassDef):
        return None
    return Scope(binding.node, found.scope, binding.node.name)


def _is_linen_method(scope: Scope) -> bool:
    around = scope.parent
    return around is not None and around.is_class and class_kind(around) == "linen"


def declared_fields(own: Scope) -> frozenset[str]:
    """The dataclass fields that a class body declares, those without a default among them."""
    targets = (node.target for node in own.nodes if isinstance(node, ast.AnnAssign))
    names = frozenset(target.id for target in targets if isinstance(target, ast.Name))
    return names if own.is_class else frozenset()
