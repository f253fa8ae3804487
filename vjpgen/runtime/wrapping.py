"""The function that users call in place of a primal with a rule."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from flax.core.scope import Scope

from vjpgen.runtime import generic
from vjpgen.runtime.contexts import is_observed, observe, unobserved
from vjpgen.runtime.errors import NeededError
from vjpgen.runtime.modules import GUARD, ambient_module, scopes_in
from vjpgen.runtime.recursion import is_plain, is_primal_call
from vjpgen.runtime.rule import RULE, Form, Rule, Slots

Needs = frozenset[type[NeededError]]
# What calls of rules, by key, have turned out to need: each is found the first time, by running
# the call once more.
_needs: dict[str, Needs] = {}


class LiftedCall:
    """Given to a lifted function as its first argument."""

    def __init__(self, rule: Rule, form: Form, needs: Needs) -> None:
        self._rule = rule
        self._form = form
        self._needs = needs

    def split(self, *slots: Any, captured: Mapping[str, Any] | None = None) -> Any:
        """Split the call's arguments; returns a `splitting.Split`.

        Args:
            slots: the arguments, one a parameter.
            captured: what the function and its rules take from functions around them, by name,
                as far as the compiler saw it.
        """
        from vjpgen.runtime.splitting import Split  # it rebuilds lifted functions: it needs `wrap`

        return Split(self._rule, slots, self._form, self._needs, captured)


def wrap(rule: Rule) -> Any:
    """Make the function that users call; it finds its rule in its own attribute `RULE`.

    While a module is initialized the primal runs as it is: nothing is differentiated, and
    transforms such as `nn.scan` see how parameters are made.
    """

    @functools.wraps(rule.primal)
    def call(*args: Any, **kwargs: Any) -> Any:
        now: Rule = call.__dict__[RULE].for_call(args, kwargs)
        if is_plain():
            return now.primal(*args, **kwargs)
        slots, form = now.bind(args, kwargs)
        scopes = scopes_in(slots)
        if _is_initializing(scopes):
            return now.primal(*args, **kwargs)
        observed = bool(args) and is_observed(now.primal, args[0])
        if is_primal_call(now, scopes):
            if observed:  # the call around the rule has been intercepted and captured
                return unobserved(now.primal, args, kwargs)
            return now.primal(*args, **kwargs)
        if observed:
            run = functools.partial(_run_lifted, call.__dict__[RULE])
            return observe(now.primal, run, args, kwargs)
        return _call_lifted(now, slots, form)

    call.__dict__[RULE] = rule
    return call


def _run_lifted(rule: Rule, *args: Any, **kwargs: Any) -> Any:
    now = rule.for_call(args, kwargs)
    return _call_lifted(now, *now.bind(args, kwargs))


def _call_lifted(rule: Rule, slots: Slots, form: Form) -> Any:
    lifted = rule.lifted if rule.takes(slots) else generic.lifted
    needs = _needs.get(rule.key, frozenset())
    while True:
        try:
            return lifted(LiftedCall(rule, form, needs), *slots)
        except NeededError as error:
            if type(error) in needs:  # of a call around this one
                raise
            needs |= {type(error)}
            _needs[rule.key] = needs


def _is_initializing(scopes: Sequence[Scope]) -> bool:
    module = ambient_module()
    if module is not None and module is not GUARD and module.scope is not None:
        scopes = [*scopes, module.scope]
    return any(scope.flags.get("initializing") for scope in scopes)
