"""The keys of an annotation, and what each may hold.

One table, `KEYS`, says of each key how its value is read and how to describe that to a user.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass

Value = str | bool | tuple[int, ...] | tuple[str, ...] | ast.expr
"""A key's value: what it says in plain data, or the expression that has to be evaluated."""


_MOST_ARGUMENTS = 10_000


@dataclass(frozen=True)
class Kind:
    """How to read a key: `read` gives None for a value of the wrong kind, `help` says what fits.

    `choices` are the values that there are, where they can be listed.
    """

    read: Callable[[ast.expr], Value | None]
    help: str
    choices: tuple[str, ...] = ()


def read_value(key: str, node: ast.expr) -> Value | None:
    """The value of a known key, or None if it is of the wrong kind."""
    value = KEYS[key].read(node)
    return None if isinstance(value, ast.expr) and not _compiles(value) else value


def _compiles(node: ast.expr) -> bool:
    """Whether an expression may stand by itself: no `yield`, no argument given twice."""
    try:
        compile(ast.unparse(node), "<annotation>", "eval", dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    return True


def name_or_string(node: ast.expr) -> str | None:
    """What a bare, dotted or quoted name says."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) and node.value else None
    return dotted(node)


def dotted(node: ast.expr) -> str | None:
    """`a.b.c` of a name or a chain of attributes."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = dotted(node.value)
        return None if base is None else f"{base}.{node.attr}"
    return None


def _elements(node: ast.expr) -> list[ast.expr]:
    return list(node.elts) if isinstance(node, ast.Tuple | ast.List) else [node]


def _function(node: ast.expr) -> ast.expr | None:
    callable_ = ast.Name, ast.Attribute, ast.Call, ast.Lambda, ast.Subscript, ast.IfExp, ast.BoolOp
    return node if isinstance(node, callable_) else None


def _collections(node: ast.expr) -> ast.expr | None:
    """A Flax collection filter, its bare names turned into strings."""
    if isinstance(node, ast.Constant):
        return node if isinstance(node.value, bool | str) else None
    if isinstance(node, ast.Name):
        return ast.Constant(node.id)
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        items = [_collections(item) for item in node.elts]
        found = [item for item in items if item is not None]
        whole = len(found) == len(items) and not any(_is_bool(item) for item in found)
        return type(node)(found) if whole else None
    if isinstance(node, ast.Call):
        args = [_collections(item) for item in node.args]
        found = [item for item in args if item is not None]
        return ast.Call(node.func, found, node.keywords) if len(found) == len(args) else None
    return node if isinstance(node, ast.Attribute | ast.Subscript) else None


def _is_bool(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, bool)


def _integers(node: ast.expr) -> tuple[int, ...] | None:
    numbers: list[int] = []
    for item in _elements(node):
        sign = 1
        if isinstance(item, ast.UnaryOp) and isinstance(item.op, ast.USub):
            sign, item = -1, item.operand
        if not isinstance(item, ast.Constant) or type(item.value) is not int:
            return None
        if item.value > _MOST_ARGUMENTS:
            return None
        numbers.append(sign * item.value)
    return tuple(numbers)


def _names(node: ast.expr) -> tuple[str, ...] | None:
    names = [name_or_string(item) for item in _elements(node)]
    found = tuple(name for name in names if name is not None)
    return found if len(found) == len(names) else None


def _argument_names(node: ast.expr) -> tuple[str, ...] | None:
    names = _names(node)
    return names if names is not None and all(name.isidentifier() for name in names) else None


def _claim(node: ast.expr) -> bool | tuple[str, ...] | None:
    if isinstance(node, ast.Constant) and node.value is True:
        return True
    return _names(node)


def _flag(node: ast.expr) -> bool | None:
    return node.value if isinstance(node, ast.Constant) and type(node.value) is bool else None


def _one_of(*choices: str) -> Callable[[ast.expr], str | None]:
    def read(node: ast.expr) -> str | None:
        name = name_or_string(node)
        return name if name in choices else None

    return read


_RULE = Kind(_function, "write the name of a function, or an expression that gives one")
_CLAIM = Kind(_claim, "write `True` for every slot, or the names of slots: `x` or `(params, x)`")
_FLAG = Kind(_flag, "write `True` or `False`", ("True", "False"))
_MISSING = ("error", "zero", "autodiff")
_TARGETS = ("linen", "nnx", "function")

KEYS: dict[str, Kind] = {
    "fwd": _RULE,
    "bwd": _RULE,
    "grad_vars": Kind(
        _collections, "write a collection, several or a filter: `params`, `(params, adapters)`"
    ),
    "nondiff_argnums": Kind(_integers, "write a number or a tuple of numbers: `1` or `(1, 2)`"),
    "nondiff_argnames": Kind(
        _argument_names, "write an argument's name or a tuple of names: `train` or `(mask, train)`"
    ),
    "missing": Kind(_one_of(*_MISSING), "write `error`, `zero` or `autodiff`", _MISSING),
    "exact": _CLAIM,
    "surrogate": _CLAIM,
    "zero": _CLAIM,
    "state": _CLAIM,
    "example": _RULE,
    "symbolic_zeros": _FLAG,
    "optimize_remat": _FLAG,
    "target": Kind(_one_of(*_TARGETS), "write `linen` or `function`", _TARGETS),
}
