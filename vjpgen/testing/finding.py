"""From the name of an annotated function to what can be called with its example."""

from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from flax.core.scope import Filter

from vjpgen.runtime.rule import Rule
from vjpgen.testing.examples import (
    Arguments,
    ExampleError,
    NoExampleError,
    example_of,
    rule_of,
)
from vjpgen.testing.shapes import arguments_from_annotations

_NESTED = ".<locals>."


@dataclass(frozen=True, eq=False)
class Found:
    """A rule, and what its example is for.

    Args:
        function: what is called: the annotated function; for one that is nested in others, the
            outermost of them.
        called: the qualified name of `function`.
        rule: the rule of `function`; None where the annotated function is nested in it.
        grad_vars: the collections that are differentiated.
        example: returns arguments of `function`.
        made_up: whether there is no example, and the arguments are made from annotations.
    """

    function: Callable[..., Any]
    called: str
    rule: Rule | None
    grad_vars: Filter
    example: Callable[..., Any]
    made_up: bool = False

    @property
    def given(self) -> str:
        """What the arguments are, as a message says it."""
        return "arguments made from its annotations" if self.made_up else "its example"


class NotFoundError(Exception):
    """A module has no function of this name with a rule."""


def find_rule(module: ModuleType, name: str, keys: Mapping[str, str]) -> Found:
    """Find an annotated function in its imported module.

    Args:
        module: the module.
        name: the function's qualified name.
        keys: the keys of its annotation, each with its value's source text; only those of a
            function that is nested in another matter, which there is not before that one runs.

    Raises:
        NotFoundError: the module has no such function, or it has no rule there.
        NoExampleError: the annotation names no example, and the function's annotations do not
            say what arrays it takes.
        ExampleError: it names one that cannot be reached.
    """
    called, _, inner = name.partition(_NESTED)
    owner, function = _walk(module, called)
    rule = rule_of(function)
    if inner:
        example = _nested_example(module, keys, name) or example_of(function, owner)
        grad_vars = _collections(module, keys.get("grad_vars", "params"))
    elif rule is None:
        raise NotFoundError(f"`{name}` has no rule")
    else:
        example, grad_vars = example_of(function, owner), rule.grad_vars
    used = None if inner else rule
    if example is not None:
        return Found(function, called, used, grad_vars, example)
    return Found(function, called, used, grad_vars, _made_up(function, owner, called, name), True)


def _made_up(
    function: Callable[..., Any], owner: Any, called: str, name: str
) -> Callable[[Any], Arguments]:
    """Return an example that is made from the annotations of a function's arrays."""
    attribute = inspect.getattr_static(owner, called.rpartition(".")[2])
    is_method = isinstance(owner, type) and not isinstance(attribute, staticmethod)
    make = functools.partial(arguments_from_annotations, function, owner if is_method else None)
    why = ""
    try:
        if make() is not None:
            return lambda key: make(key) or ()
    except ExampleError as error:
        why = f", and none can be made from annotations: {error}"
    whose = "its positional arguments" if called == name else f"arguments of `{called}`"
    raise NoExampleError(
        f"the rule of `{name}` has no example{why}: write a function that returns {whose} as a "
        "tuple (for a method, the unbound module first), and add `example=that_function` to the "
        "annotation"
    )


def inherited(module: ModuleType, name: str) -> str | None:
    """Return the qualified name of a rule that a class has from another one.

    Args:
        module: the imported module.
        name: that of a method, or of a class that has one rule.
    """
    try:
        _, value = _walk(module, name)
    except NotFoundError:
        return None
    if not isinstance(value, type):
        return None if rule_of(value) is None else name
    found = [each for each in dir(value) if rule_of(getattr(value, each, None)) is not None]
    return f"{name}.{found[0]}" if len(found) == 1 else None


def _walk(module: ModuleType, name: str) -> tuple[Any, Any]:
    """Return what holds a function, and the function."""
    owner: Any = module
    value: Any = module
    for part in name.split("."):
        owner, value = value, getattr(value, part, None)
    if value is None:
        raise NotFoundError(f"`{name}` is not defined in {module.__name__}")
    return owner, value


def _nested_example(
    module: ModuleType, keys: Mapping[str, str], name: str
) -> Callable[..., Any] | None:
    text = keys.get("example")
    if text is None:
        return None
    try:
        return eval(text, vars(module))
    except NameError:
        raise ExampleError(
            f"the example `{text}` of `{name}` is defined inside of another function, where it "
            "cannot be reached: define it at the level of the module"
        ) from None


def _collections(module: ModuleType, text: str) -> Filter:
    """Read the value of `grad_vars`, in which bare names stand for strings."""
    node = ast.parse(text.strip(), mode="eval").body
    if isinstance(node, ast.Tuple):
        parts = (_collections(module, ast.unparse(each)) for each in node.elts)
        return tuple(part for part in parts if isinstance(part, str))
    return node.id if isinstance(node, ast.Name) else eval(text.strip(), vars(module))
