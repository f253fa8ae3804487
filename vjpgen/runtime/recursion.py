"""Inside its own forward and backward rule an annotated function is its primal.

A function of modules leaves a mark in the flags of the scopes that its forward run builds; Flax
carries flags through every clone and transform, so the mark is found however the module is
called. A function of arrays marks a context that JAX's trace caches depend on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
from flax.core.scope import Scope

from vjpgen.runtime.rule import Rule

_FLAG = "vjpgen_primal"
_running: Any = jax.make_user_context(default_value=())


def marks(rule: Rule, scopes: Sequence[Scope]) -> Mapping[str, Any]:
    """Return the flags that make `rule` its primal on modules with these scopes."""
    if not scopes:
        return {}
    known = {mark for scope in scopes for mark in _marks_of(scope)}
    return {_FLAG: tuple(sorted(known | {_mark(rule, scope) for scope in scopes}))}


def is_primal_call(rule: Rule, scopes: Sequence[Scope]) -> bool:
    """Tell whether a call of `rule`'s function comes from its own rules.

    Args:
        rule: the rule.
        scopes: the scopes of the modules among the arguments.
    """
    if any(_mark(rule, scope) in _marks_of(scope) for scope in scopes):
        return True
    return not scopes and rule.key in (_running.value or ())


@contextlib.contextmanager
def own_rules_of(rule: Rule, marked: bool) -> Iterator[None]:
    """Enter the forward or backward rule of `rule`; `marked`: no need to, its scopes tell."""
    running = _running.value or ()
    if marked or rule.key in running:
        yield
        return
    with _running((*running, rule.key)):
        yield


def _marks_of(scope: Scope) -> tuple[str, ...]:
    found: Any = scope.flags.get(_FLAG)
    return found or ()


def _mark(rule: Rule, scope: Scope) -> str:
    return f"{rule.key}|{'/'.join(scope.path)}"
