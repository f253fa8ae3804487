"""The function that users call in place of a primal with a rule."""

from __future__ import annotations

import functools
from typing import Any

from flax.linen.module import Module

from vjpgen.runtime.modules import bound_scope
from vjpgen.runtime.recursion import is_primal_call
from vjpgen.runtime.rule import RULE, Form, Rule


class LiftedCall:
    """Given to a lifted function as its first argument."""

    def __init__(self, rule: Rule, form: Form) -> None:
        self._rule = rule
        self._form = form

    def split(self, *slots: Any) -> Any:
        """Split the call's arguments, one a parameter; returns a `splitting.Split`."""
        from vjpgen.runtime.splitting import Split  # it rebuilds lifted functions: it needs `wrap`

        return Split(self._rule, slots, self._form)


def wrap(rule: Rule) -> Any:
    """Make the function that users call; it finds its rule in its own attribute `RULE`."""

    @functools.wraps(rule.primal)
    def call(*args: Any, **kwargs: Any) -> Any:
        now: Rule = call.__dict__[RULE].for_call(args, kwargs)
        slots, form = now.bind(args, kwargs)
        if _is_unbound(slots) or is_primal_call(now, slots):
            return now.primal(*args, **kwargs)
        return now.lifted(LiftedCall(now, form), *slots)

    call.__dict__[RULE] = rule
    return call


def _is_unbound(slots: tuple[Any, ...]) -> bool:
    """Tell whether the function is called on a module outside of `init` and `apply`."""
    return bool(slots) and isinstance(slots[0], Module) and bound_scope(slots[0]) is None
