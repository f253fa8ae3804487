"""What kind of class a method belongs to, from its bases and the imports behind them."""

from __future__ import annotations

import ast
from typing import Literal
from weakref import WeakKeyDictionary

from vjpgen.compiler.scopes import Scope, look_up
from vjpgen.compiler.values import dotted

ClassKind = Literal["linen", "nnx", "plain", "unknown"]

_STANDARD = ("abc.", "builtins.", "collections.", "dataclasses.", "enum.", "typing.")
_LIBRARIES = ("chex.", "equinox.", "flax.struct.", "haiku.", "torch.", "typing_extensions.")
_PLAIN_PATHS = (*_STANDARD, *_LIBRARIES)
_NNX_DATA = ("Rngs", "RngStream", "State", "GraphDef", "Variable", "Param", "BatchStat", "Cache")


def class_kind(own: Scope, depth: int = 0) -> ClassKind:
    """The kind of the class whose body is the scope `own`."""
    if own not in _KINDS:
        _KINDS[own] = _class_kind(own, depth)
    return _KINDS[own]


_KINDS: WeakKeyDictionary[Scope, ClassKind] = WeakKeyDictionary()


def _class_kind(own: Scope, depth: int) -> ClassKind:
    node, scope = own.node, own.parent
    if not isinstance(node, ast.ClassDef) or scope is None:
        return "plain"
    kinds = {_base_kind(base, scope, depth) for base in node.bases}
    if "nnx" in kinds or _mentions_nnx(node, own):
        return "nnx"
    if "linen" in kinds or _uses_compact(node, own):
        return "linen"
    return "unknown" if "unknown" in kinds else "plain"


def annotation_kind(annotation: ast.expr | None, scope: Scope) -> ClassKind:
    """The kind of class that a parameter is annotated with; "plain" where it says none."""
    if annotation is None:
        return "plain"
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        try:
            annotation = ast.parse(annotation.value, mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return "plain"
    kind = _base_kind(annotation, scope, 0)
    is_data = kind == "nnx" and (resolved_path(annotation, scope) or "").endswith(_NNX_DATA)
    return kind if kind in ("linen", "nnx") and not is_data else "plain"


def resolved_path(node: ast.expr, scope: Scope) -> str | None:
    """The absolute dotted path of an imported name: `nn.compact` is `flax.linen.compact`."""
    name = dotted(node)
    if name is None:
        return None
    first, _, rest = name.partition(".")
    found = look_up(first, scope)
    binding = found.only if found else None
    if binding is None:
        return f"builtins.{name}" if found is not None and found.scope is None else None
    if binding.module is None:
        return None
    return f"{binding.module}.{rest}" if rest else binding.module


def _base_kind(base: ast.expr, scope: Scope, depth: int) -> ClassKind:
    if isinstance(base, ast.Subscript):
        return _base_kind(base.value, scope, depth)
    path = resolved_path(base, scope)
    if path is not None:
        return _path_kind(path)
    if isinstance(base, ast.Name) and depth < 20:
        found = look_up(base.id, scope)
        binding = found.only if found else None
        if found and found.scope and binding and isinstance(binding.node, ast.ClassDef):
            own = Scope(binding.node, found.scope, binding.node.name)
            return class_kind(own, depth + 1)
    return "unknown"


def _path_kind(path: str) -> ClassKind:
    if path.startswith(("flax.nnx.", "flax.experimental.nnx.")):
        return "nnx"
    if path.startswith("flax.linen."):
        return "linen"
    return "plain" if path.startswith(_PLAIN_PATHS) else "unknown"


def _uses_compact(node: ast.ClassDef, own: Scope) -> bool:
    for method in node.body:
        if isinstance(method, ast.FunctionDef):
            paths = {resolved_path(decorator, own) for decorator in method.decorator_list}
            if "flax.linen.compact" in paths:
                return True
    return False


def _mentions_nnx(node: ast.ClassDef, own: Scope) -> bool:
    for method in node.body:
        if isinstance(method, ast.FunctionDef) and method.name == "__init__":
            for argument in (*method.args.args, *method.args.kwonlyargs):
                annotation = argument.annotation
                if annotation is not None and _base_kind(annotation, own, 0) == "nnx":
                    return True
    return False
