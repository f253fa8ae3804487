"""What a module hands on to those that import from it, as its text shows it.

from .layers import Dense          imported: Dense is `Dense` of `pkg.layers`
from . import losses as loss       imported: loss is `losses` of `pkg`
from .blocks import *              stars: `pkg.blocks`
def helper(): ...                  hidden: nothing that is handed on
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from vjpgen.compiler.scopes import Binding, Scope
from vjpgen.compiler.siblings import absolute

Listed = tuple[str, ...] | None


@dataclass(frozen=True)
class Exports:
    """The names of a module.

    Args:
        imported: names that stand for a name of another module, with the two; the name of a
            module itself stands beside "".
        hidden: names bound otherwise, or in several ways.
        stars: the modules that it star-imports, in the order of the file.
        listed: what `__all__` lists; None where there is none, or where it is computed.
    """

    imported: dict[str, tuple[str, str]]
    hidden: frozenset[str]
    stars: tuple[str, ...]
    listed: Listed


@lru_cache(maxsize=256)
def exports_of(data: bytes, package: str) -> Exports | None:
    """Read what a module hands on; None for a text that is not Python.

    Args:
        data: the module's bytes.
        package: the package that its relative imports start from.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(data)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    bindings = Scope(tree, None, "").bindings
    imported: dict[str, tuple[str, str]] = {}
    for name, found in bindings.items():
        origins = {_origin(name, binding, package) for binding in found}
        origin = origins.pop() if len(origins) == 1 else None
        if origin is not None:
            imported[name] = origin
    hidden = frozenset(bindings) - frozenset(imported) - {"*"}
    return Exports(imported, hidden, tuple(_stars(bindings.get("*", ()), package)), _listed(tree))


def _origin(name: str, binding: Binding, package: str) -> tuple[str, str] | None:
    """The module and the name in it that a binding stands for, if it is such an import."""
    node = binding.node
    if isinstance(node, ast.Import):
        asked = [alias for alias in node.names if alias.asname == name]
        return (asked[-1].name, "") if asked else None
    if not isinstance(node, ast.ImportFrom):
        return None
    module = absolute(package, node.module, node.level)
    asked = [alias for alias in node.names if (alias.asname or alias.name) == name]
    return (module, asked[-1].name) if module and name != "*" else None


def _stars(bindings: list[Binding] | tuple[()], package: str) -> Iterator[str]:
    for binding in bindings:
        if isinstance(binding.node, ast.ImportFrom):
            module = absolute(package, binding.node.module, binding.node.level)
            if module:
                yield module


def _listed(tree: ast.Module) -> Listed:
    """The names in `__all__`, where it is one plain list or tuple of strings."""
    nodes = [node for node in ast.walk(tree) if _is_all(node)]
    if len(nodes) != 1 or nodes[0] not in tree.body:
        return None
    value = getattr(nodes[0], "value", None)
    if not isinstance(value, ast.List | ast.Tuple):
        return None
    names = [item.value for item in value.elts if isinstance(item, ast.Constant)]
    texts = tuple(name for name in names if isinstance(name, str))
    return texts if len(texts) == len(value.elts) else None


def _is_all(node: ast.AST) -> bool:
    """Whether a statement gives `__all__` its value, or changes it."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return isinstance(node.func.value, ast.Name) and node.func.value.id == "__all__"
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets)
