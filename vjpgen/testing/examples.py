"""The example of a rule: a function that returns arguments to call the annotated function with."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax

from vjpgen.runtime.rule import RULE, Rule

Arguments = tuple[Any, ...]
_KEYS = ("key", "rng")


class ExampleError(Exception):
    """A rule has no example, or its example is of no use; the text says what to write."""


class NoExampleError(ExampleError):
    """A rule has no example."""


def rule_of(function: Any) -> Rule | None:
    """Return the rule of a function or bound method, if it has one."""
    return getattr(getattr(function, "__func__", function), RULE, None)


def example_of(function: Any, owner: Any) -> Callable[..., Any] | None:
    """Return the function that a rule's annotation names as `example`; None where it names none.

    Args:
        function: the annotated function.
        owner: the module or class that it was found in.
    """
    rule = rule_of(function)
    if rule is None or rule.example is None:
        return None
    return getattr(owner, rule.example) if isinstance(rule.example, str) else rule.example()


def argument_sets(example: Callable[..., Any], key: Any = None) -> list[Arguments]:
    """Call an example.

    Args:
        example: takes nothing, or a jax key, which is given to a parameter that is called `key` or
            `rng`, else to the first that has no default; returns the positional arguments of the
            annotated function as a tuple, with the unbound module first for a method, or a list of
            such tuples.
        key: what it is given; by default `jax.random.key(0)`.

    Returns:
        The sets of arguments, at least one.

    Raises:
        ExampleError: the example returns something else.
    """
    key = jax.random.key(0) if key is None else key
    returned = _called(example, key)
    sets = returned if isinstance(returned, list) else [returned]
    if not sets or not all(isinstance(each, tuple) for each in sets):
        raise ExampleError(
            f"the example `{_name(example)}` returned {_described(returned)}; expected the "
            "positional arguments as a tuple, as `return module, x` or `return (x,)`, or a list "
            "of such tuples"
        )
    return sets


def _called(example: Callable[..., Any], key: Any) -> Any:
    """Call an example with a key where it takes one; what has a default is left to it."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(example).parameters.values()
    for part in parameters:
        if part.kind in named and part.name in _KEYS:
            return example(**{part.name: key})
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    takes_one = any(part.kind in kinds and part.default is part.empty for part in parameters)
    return example(key) if takes_one else example()


def _described(returned: Any) -> str:
    if not isinstance(returned, list):
        return f"a value of type {type(returned).__name__}"
    if not returned:
        return "an empty list"
    kind = next(type(each).__name__ for each in returned if not isinstance(each, tuple))
    return f"a list that holds a value of type {kind}"


def _name(example: Callable[..., Any]) -> str:
    return getattr(example, "__qualname__", type(example).__name__)
