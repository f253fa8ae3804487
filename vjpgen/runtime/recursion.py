"""Inside its own forward and backward rule an annotated function is its primal.

A function of modules leaves a mark in the flags of the scopes that its forward run builds; Flax
carries flags through every clone and transform, so the mark is found however the module is
called. A function of arrays marks a context that JAX's trace caches depend on.

A nested function is made anew whenever the function around it runs, and one may call another of
the same place (a gradient scaled twice), which keeps its rule. They are told apart by what their
primals have captured, not by identity: marks that differ from call to call would have JAX trace
again, and keep, what is jitted inside rules.
"""

from __future__ import annotations

import contextlib
import functools
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax.core.scope import Scope

from vjpgen.runtime.modules import unwrap_handler
from vjpgen.runtime.rule import Rule, cell_content, own_rule

_FLAG = "vjpgen_primal"
_running: Any = jax.make_user_context(default_value=())
_plain: Any = jax.make_user_context(default_value=False)


def plain() -> Any:
    """Return a context in which every function is its primal, as in the source without vjpgen."""
    return _plain(True)


def is_plain() -> bool:
    """Tell whether rules are to be left out."""
    return _plain.value


def marks(rule: Rule, scopes: Sequence[Scope]) -> Mapping[str, Any]:
    """Return the flags that make `rule` its primal on modules with these scopes.

    The first scope alone is marked, a method's own: another module among the arguments, of the
    same class perhaps, keeps its rule.
    """
    if not scopes:
        return {}
    known = {mark for scope in scopes for mark in _marks_of(scope)}
    return {_FLAG: tuple(sorted(known | {_mark(name_of(rule), scopes[0])}))}


def is_primal_call(rule: Rule, scopes: Sequence[Scope]) -> bool:
    """Tell whether a call of `rule`'s function comes from its own rules.

    Args:
        rule: the rule.
        scopes: the scopes of the modules among the arguments.
    """
    if not scopes:
        return bool(_running.value) and name_of(rule) in _running.value
    known = _marks_of(scopes[0])
    return bool(known) and _mark(name_of(rule), scopes[0]) in known


@contextlib.contextmanager
def own_rules_of(rule: Rule, marked: bool) -> Iterator[None]:
    """Enter the forward or backward rule of `rule`; `marked`: no need to, its scopes tell."""
    if marked:
        yield
        return
    running, name = _running.value or (), name_of(rule)
    if name in running:
        yield
        return
    with _running((*running, name)):
        yield


def _marks_of(scope: Scope) -> tuple[str, ...]:
    found: Any = scope.flags.get(_FLAG)
    return found or ()


def flags_below(flags: Mapping[str, Any], path: Sequence[str]) -> tuple[Any, ...]:
    """Return a scope's flags as something with a hash; of the marks, those at and below its path.

    A mark of a module that is further up matches no module in the scope.

    Args:
        flags: the scope's flags.
        path: the scope's path.
    """
    root = "/".join(path)
    found = []
    for flag, value in sorted(flags.items()):
        if flag == _FLAG:
            parts = [mark.rpartition("|") for mark in value]
            value = tuple(
                (name, place.removeprefix(root))
                for name, _, place in parts
                if place == root or not root or place.startswith(f"{root}/")
            )
        found.append((flag, value))
    return tuple(found)


def _mark(name: str, scope: Scope) -> str:
    return f"{name}|{'/'.join(scope.path)}"


def name_of(rule: Rule) -> str:
    """Name a rule's function: by its key and, where it has captured something, by that."""
    if rule.identity is not None:
        return rule.identity
    if not getattr(unwrap_handler(rule.primal), "__closure__", None):
        return rule.key
    return f"{rule.key}#{hash(_shape(rule.primal, ()))}"


def _shape(value: Any, users: tuple[int, ...]) -> Any:
    """Return what tells a captured value from others in behaviour; arrays and objects by type.

    Of a list or dict, whose contents may change from call to call, only the functions count.

    Args:
        value: anything.
        users: the functions that hold it, by identity.
    """
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return repr(value)  # hashes of numbers collide: of -1 and -2, of 1 and True
    if isinstance(value, (jax.Array, np.ndarray, np.generic)):
        return "array"  # traced or not: in its own rules a function holds that run's arrays
    if id(value) in users:
        return "itself"
    if isinstance(value, types.FunctionType):
        users = (*users, id(value))
        rule = own_rule(value)
        if rule is not None:
            return rule.key, _shape(rule.primal, users)
        cells = [_shape(cell_content(cell), users) for cell in value.__closure__ or ()]
        return value.__code__, *cells, _shape(value.__defaults__, users)
    if isinstance(value, (types.BuiltinFunctionType, type)):
        return value
    if isinstance(value, types.MethodType):
        return _shape(value.__func__, users), type(value.__self__)
    if isinstance(value, functools.partial):
        return _shape(value.func, users), _shape(value.args, users), _shape(value.keywords, users)
    if isinstance(value, tuple):
        return tuple, *[_shape(item, users) for item in value]
    if isinstance(value, (list, dict)):
        items = value.values() if isinstance(value, dict) else value
        return type(value), *[_shape(item, users) for item in items if callable(item)]
    if callable(value):
        return type(value), _shape(getattr(value, "__wrapped__", None), users)  # `jax.jit` and such
    return type(value)
