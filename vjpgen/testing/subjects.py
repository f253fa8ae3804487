"""A function and arguments to call it with, as one pure function of arrays.

Modules among the arguments are bound: their variables, and keys to draw with, become arrays like
the others. What is no array is fixed.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax.core.scope import DenyList, Filter, LazyRng, Scope, in_filter
from flax.errors import InvalidRngError

from vjpgen.runtime.leaves import is_differentiable
from vjpgen.runtime.recursion import plain
from vjpgen.runtime.rule import Rule
from vjpgen.testing.examples import Arguments, ExampleError

_PARAMS = "params"
_INTERMEDIATES = "intermediates"


@dataclasses.dataclass(frozen=True, eq=False)
class Input:
    """One array that a subject's function takes.

    Args:
        name: an argument's name or path, a variable's path (`params.Dense_0.kernel`), or
            `rngs.NAME`.
        value: the array, or its shape and dtype.
        differentiated: whether gradients are taken with respect to it.
    """

    name: str
    value: Any
    differentiated: bool


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """A pure function of arrays that calls another on its arguments.

    Args:
        inputs: the arrays.
        call: takes one array for each input; returns the function's output and the collections
            that it updates, as pytrees. Rules take part, unless it runs within `plain()`.
    """

    inputs: tuple[Input, ...]
    call: Callable[[Sequence[Any]], tuple[Any, Any]]


def bind(
    function: Callable[..., Any],
    arguments: Arguments,
    rule: Rule | None = None,
    *,
    grad_vars: Filter = _PARAMS,
    key: Any = None,
    abstract: bool = False,
) -> Subject:
    """Make a subject of a function and its arguments.

    Differentiated are arrays of floating point and complex dtypes: the arguments that the rule does
    not call nondiff, and the variables of some collections. Where there is none, Python floats
    are taken for arrays. A module is initialized; one that is bound comes with its variables, keys
    and mutable collections: `module.bind(variables, rngs={"dropout": key}), x`. Collections other
    than `params` are mutable where the function updates them. A module that draws is given `key`
    for whatever it draws.

    Args:
        function: the function, with or without a rule.
        arguments: its positional arguments.
        rule: the rule of `function`, which says what arguments are nondiff.
        grad_vars: the collections that are differentiated: a Flax collection filter.
        key: initializes modules; by default `jax.random.key(0)`.
        abstract: whether the shapes and dtypes of variables are enough.

    The function is traced once, without rules: what it raises is raised here.

    Raises:
        ExampleError: the arguments do not fit the function, or nothing can be differentiated.
    """
    key = jax.random.key(0) if key is None else key
    taken = _take_apart(function, arguments, rule)
    if not taken.modules:
        subject = _of_arrays(function, taken)
    else:
        subject = _of_modules(function, taken, grad_vars, key, abstract)
    if not any(each.differentiated for each in subject.inputs):
        raise ExampleError(
            "nothing in the example can be differentiated: it has no array of a floating point or "
            "complex dtype"
        )
    return subject


# -- arguments -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class _Taken:
    """Arguments, taken apart.

    Args:
        leaves: what they hold.
        structure: how to put it together again.
        arrays: the arrays by their place among the leaves.
        modules: the places of modules.
    """

    leaves: Sequence[Any]
    structure: Any
    arrays: Mapping[int, Input]
    modules: Sequence[int]

    def rebuilt(self, arrays: Sequence[Any], modules: Sequence[Any] = ()) -> Arguments:
        """Put other arrays and modules in the place of these."""
        leaves = list(self.leaves)
        for place, value in zip(self.arrays, arrays, strict=True):
            leaves[place] = value
        for place, value in zip(self.modules, modules, strict=True):
            leaves[place] = value
        return jax.tree_util.tree_unflatten(self.structure, leaves)


def _take_apart(function: Callable[..., Any], arguments: Arguments, rule: Rule | None) -> _Taken:
    names = _names(function, arguments)
    nondiff = _nondiff(rule, arguments)
    found, structure = jax.tree_util.tree_flatten_with_path(arguments)
    leaves = [value for _, value in found]
    if not any(_is_array(leaf) and is_differentiable(leaf) for leaf in leaves) and not any(
        isinstance(leaf, nn.Module) for leaf in leaves
    ):
        leaves = [
            np.asarray(x, jax.dtypes.canonicalize_dtype(type(x)))
            if isinstance(x, (float, complex))
            else x
            for x in leaves
        ]
    arrays = {}
    for place, ((path, _), leaf) in enumerate(zip(found, leaves, strict=True)):
        if _is_array(leaf):
            name, slot = names[path[0].idx], path[0].idx
            wanted = slot not in nondiff and is_differentiable(leaf)
            arrays[place] = Input(_joined(name, path[1:]), leaf, wanted)
    modules = [place for place, leaf in enumerate(leaves) if isinstance(leaf, nn.Module)]
    return _Taken(leaves, structure, arrays, modules)


def _joined(name: str, path: Sequence[Any]) -> str:
    dotted = jax.tree_util.keystr(tuple(path), simple=True, separator=".")
    return f"{name}.{dotted}" if dotted else name


def _names(function: Callable[..., Any], arguments: Arguments) -> list[str]:
    """Name each positional argument by its parameter."""
    signature = inspect.signature(function)
    try:
        signature.bind(*arguments)
    except TypeError as error:
        name = getattr(function, "__qualname__", "the function")
        raise ExampleError(
            f"the example's arguments do not fit `{name}{signature}`: {error}"
        ) from None
    names: list[str] = []
    for part in signature.parameters.values():
        if part.kind is inspect.Parameter.VAR_POSITIONAL:
            names += [f"{part.name}[{n}]" for n in range(len(arguments) - len(names))]
        else:
            names.append(part.name)
    return names


def _nondiff(rule: Rule | None, arguments: Arguments) -> set[int]:
    """The places of arguments without a tangent."""
    if rule is None:
        return set()
    slots, _ = rule.bind(arguments, {})
    return {place for place, (*_, nondiff) in enumerate(rule.arguments(slots)) if nondiff}


def _is_array(value: Any) -> bool:
    return isinstance(value, (jax.Array, np.ndarray, np.generic, jax.ShapeDtypeStruct))


# -- functions of arrays ---------------------------------------------------------------------------


def _of_arrays(function: Callable[..., Any], taken: _Taken) -> Subject:
    def call(arrays: Sequence[Any]) -> tuple[Any, Any]:
        return function(*taken.rebuilt(arrays)), {}

    inputs = tuple(taken.arrays.values())
    with plain():
        jax.eval_shape(call, [each.value for each in inputs])
    return Subject(inputs, call)


# -- functions of modules --------------------------------------------------------------------------

Body = Callable[[Sequence[nn.Module], Sequence[Any]], Any]


class _Modules(nn.Module):
    """Holds the modules among the arguments, where they are not the first argument alone."""

    modules: tuple[nn.Module, ...]

    def run(self, body: Body, arrays: Sequence[Any]) -> Any:
        """Call a function of the modules and of arrays."""
        return body(self.modules, arrays)


@dataclasses.dataclass(frozen=True, eq=False)
class _Setting:
    """What a module is applied with.

    Args:
        variables: its collections.
        rngs: the keys that it draws with.
        mutable: the collections that it may update.
    """

    variables: Any
    rngs: Mapping[str, Any]
    mutable: Filter


def _of_modules(
    function: Callable[..., Any], taken: _Taken, grad_vars: Filter, key: Any, abstract: bool
) -> Subject:
    def body(modules: Sequence[nn.Module], arrays: Sequence[Any]) -> Any:
        return function(*taken.rebuilt(arrays, modules))

    values = [each.value for each in taken.arrays.values()]
    root, run = _rooted(
        [taken.leaves[place] for place in taken.modules], taken.modules == [0], body
    )
    if isinstance(root.scope, Scope):
        root, setting = _setting_of(root)
    else:
        setting = _initialized(root, run, values, key, abstract)
    found, structure = jax.tree_util.tree_flatten_with_path((setting.variables, setting.rngs))
    variables = [_variable(path, value, grad_vars) for path, value in found]

    def call(arrays: Sequence[Any]) -> tuple[Any, Any]:
        own, others = arrays[: len(variables)], arrays[len(variables) :]
        collections, rngs = jax.tree_util.tree_unflatten(structure, own)
        return _apply(root, run, _Setting(collections, rngs, setting.mutable), others)

    return Subject((*variables, *taken.arrays.values()), call)


def _rooted(modules: Sequence[nn.Module], is_first: bool, body: Body) -> tuple[nn.Module, Any]:
    """Return the module to apply, and the function to apply it with."""
    if is_first:
        return modules[0], lambda module, arrays: body([module], arrays)
    if any(isinstance(module.scope, Scope) for module in modules):
        raise ExampleError(
            "the example gives a bound module beside others; give unbound ones, or one bound "
            "module as the first argument"
        )
    return _Modules(tuple(modules)), functools.partial(_run_on_all, body)


def _run_on_all(body: Body, module: _Modules, arrays: Sequence[Any]) -> Any:
    return module.run(body, arrays)


def _setting_of(module: nn.Module) -> tuple[nn.Module, _Setting]:
    """Take a bound module apart."""
    scope = module.scope
    assert scope is not None
    rngs = {
        name: rng.as_jax_rng() if isinstance(rng, LazyRng) else rng
        for name, rng in scope.rngs.items()
    }
    unbound, variables = module.unbind()
    return unbound, _Setting(variables, rngs, scope.mutable)


def _initialized(
    root: nn.Module, run: Any, values: Sequence[Any], key: Any, abstract: bool
) -> _Setting:
    """Initialize a module; find out whether it draws, and what it updates."""
    init = nn.init(run, root, mutable=DenyList(_INTERMEDIATES))
    with plain():
        variables = (jax.eval_shape if abstract else _call)(init, {_PARAMS: key}, values)
        others = [name for name in variables if name != _PARAMS]
        rngs: Mapping[str, Any] = {}
        try:
            changed = _changed(root, run, _Setting(variables, rngs, others or False), values)
        except InvalidRngError:
            rngs = {_PARAMS: key}
            changed = _changed(root, run, _Setting(variables, rngs, others or False), values)
    return _Setting(variables, rngs, changed or False)


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


def _changed(root: nn.Module, run: Any, setting: _Setting, values: Sequence[Any]) -> list[str]:
    """Find the collections that a call updates: what they hold does not come back as it was."""
    found: list[str] = []

    def traced(variables: Any, values: Sequence[Any]) -> None:
        before = {id(leaf) for leaf in jax.tree_util.tree_leaves(variables)}
        now = _Setting(variables, setting.rngs, setting.mutable)
        _, updates = _apply(root, run, now, values)
        for name, collection in updates.items():
            if any(id(leaf) not in before for leaf in jax.tree_util.tree_leaves(collection)):
                found.append(name)

    jax.eval_shape(traced, setting.variables, list(values))
    return found


def _apply(
    root: nn.Module, run: Any, setting: _Setting, arrays: Sequence[Any]
) -> tuple[Any, Mapping[str, Any]]:
    function = nn.apply(run, root, mutable=setting.mutable)
    returned = function(setting.variables, arrays, rngs=setting.rngs)
    return returned if setting.mutable is not False else (returned, {})


def _variable(path: Sequence[Any], value: Any, grad_vars: Filter) -> Input:
    """Name a variable, or a key of an application."""
    kind, (collection, *rest) = path[0].idx, path[1:]
    if kind == 1:
        return Input(f"rngs.{collection.key}", value, False)
    wanted = in_filter(grad_vars, collection.key) and is_differentiable(value)
    return Input(_joined(collection.key, rest), value, wanted)
