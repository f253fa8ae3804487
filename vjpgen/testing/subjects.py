"""A function and arguments to call it with, as one pure function of arrays.

Modules among the arguments are bound: their variables, and keys to draw with, become arrays like
the others. What is no array is fixed.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax.core.scope import DenyList, Filter, LazyRng, Scope, in_filter
from flax.errors import InvalidRngError

from vjpgen.runtime.leaves import below, is_differentiable, path_text
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
        slot: the argument that it belongs to; "" for keys of an application.
        path: the path that claims name it by: `params.Dense_0.kernel`, `x[0]`.
    """

    name: str
    value: Any
    differentiated: bool
    slot: str = ""
    path: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """A pure function of arrays that calls another on its arguments.

    Args:
        inputs: the arrays.
        call: takes one array for each input; returns the function's output and the collections
            that it updates, as pytrees. Rules take part, unless it runs within `plain()`.
        calling: makes `call` of another function that takes the same arguments.
        initialize: initializes the module anew and returns its variables; None where there is
            nothing to initialize.
    """

    inputs: tuple[Input, ...]
    call: Callable[[Sequence[Any]], tuple[Any, Any]]
    calling: Callable[[Callable[..., Any]], Callable[[Sequence[Any]], tuple[Any, Any]]]
    initialize: Callable[[], Any] | None = None


def bind(
    function: Callable[..., Any],
    arguments: Arguments,
    rule: Rule | None = None,
    *,
    keywords: Mapping[str, Any] | None = None,
    signature: inspect.Signature | None = None,
    nondiff: Collection[str] = (),
    static: Collection[str] = (),
    numbers: Collection[str] | None = None,
    grad_vars: Filter = _PARAMS,
    key: Any = None,
    abstract: bool = False,
) -> Subject:
    """Make a subject of a function and its arguments.

    Differentiated are arrays of floating point and complex dtypes: the arguments that the rule does
    not call nondiff, and the variables of some collections. A module is initialized; one that is
    bound comes with its variables, keys and mutable collections: `module.bind(variables,
    rngs={"dropout": key}), x`. Collections other than `params` are mutable where the function
    updates them. A module that draws is given `key` for whatever it draws.

    Args:
        function: the function, with or without a rule.
        arguments: its positional arguments.
        rule: the rule of `function`, which says what arguments are nondiff.
        keywords: its keyword arguments.
        signature: what its arguments are named by; by default its own signature.
        nondiff: the names of arguments that are not differentiated.
        static: the names of those that are no arrays to the function, whatever they hold.
        numbers: the names of the arguments whose Python floats are taken for arrays; by default
            none, unless there is nothing else to differentiate.
        grad_vars: the collections that are differentiated: a Flax collection filter.
        key: initializes modules; by default `jax.random.key(0)`.
        abstract: whether the shapes and dtypes of variables are enough.

    The function is traced once, without rules: what it raises is raised here.

    Raises:
        ExampleError: the arguments do not fit the function, or nothing can be differentiated.
    """
    key = jax.random.key(0) if key is None else key
    keywords = dict(keywords or {})
    signature = signature or inspect.signature(function)
    names = _names(function, signature, arguments, keywords)
    if rule is not None:
        nondiff = _nondiff(rule, arguments, keywords)
    taken = _take_apart(names, (arguments, keywords), nondiff, static, numbers)
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


def floats(
    function: Callable[..., Any],
    arguments: Arguments,
    rule: Rule | None = None,
    *,
    keywords: Mapping[str, Any],
    signature: inspect.Signature,
    nondiff: Collection[str] = (),
    static: Collection[str] = (),
) -> list[str]:
    """Name the arguments that hold Python floats with a tangent; arguments as in `bind`."""
    names = _names(function, signature, arguments, keywords)
    if rule is not None:
        nondiff = _nondiff(rule, arguments, keywords)
    found, _ = jax.tree_util.tree_flatten_with_path((arguments, dict(keywords)))
    slots = [names.of(path)[0] for path, leaf in found if _is_float(leaf)]
    return [slot for slot in dict.fromkeys(slots) if slot not in nondiff and slot not in static]


def left_to_defaults(signature: inspect.Signature, given: Collection[str]) -> dict[str, Any]:
    """Return the defaults that have tangents, of the parameters that are not given."""
    return {
        name: part.default
        for name, part in signature.parameters.items()
        if name not in given
        and part.kind is not inspect.Parameter.POSITIONAL_ONLY
        and part.default is not part.empty
        and any(map(_has_tangent, jax.tree_util.tree_leaves(part.default)))
    }


def _has_tangent(value: Any) -> bool:
    return _is_float(value) or (_is_array(value) and is_differentiable(value))


def _is_float(value: Any) -> bool:
    return isinstance(value, (float, complex)) and not isinstance(value, np.generic)


def _nondiff(rule: Rule, arguments: Arguments, keywords: Mapping[str, Any]) -> set[str]:
    slots, _ = rule.bind(arguments, keywords)
    return {name for name, _, is_nondiff in rule.arguments(slots) if is_nondiff}


# -- arguments -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class _Taken:
    """Arguments, taken apart.

    Args:
        leaves: what they hold.
        structure: how to put it together again.
        arrays: the arrays by their place among the leaves.
        modules: the names or paths of the modules, by their place among the leaves.
    """

    leaves: Sequence[Any]
    structure: Any
    arrays: Mapping[int, Input]
    modules: Mapping[int, str]

    def call(
        self, function: Callable[..., Any], arrays: Sequence[Any], modules: Sequence[Any] = ()
    ) -> Any:
        """Call a function with other arrays and modules in the place of these."""
        leaves = list(self.leaves)
        for place, value in zip(self.arrays, arrays, strict=True):
            leaves[place] = value
        for place, value in zip(self.modules, modules, strict=True):
            leaves[place] = value
        arguments, keywords = jax.tree_util.tree_unflatten(self.structure, leaves)
        return function(*arguments, **keywords)


@dataclasses.dataclass(frozen=True)
class _Names:
    """What arguments are called.

    Args:
        positional: the slot of each positional argument.
        keywords: the slot of each keyword argument, and what its path begins with.
    """

    positional: Sequence[str]
    keywords: Mapping[str, tuple[str, str]]

    def of(self, path: Sequence[Any]) -> tuple[str, str]:
        """Return slot and name of the argument that holds a leaf."""
        if path[0].idx == 1:
            return self.keywords[path[1].key]
        slot = self.positional[int(path[1].idx)]
        return slot, slot


def _take_apart(
    names: _Names,
    arguments: tuple[Arguments, Mapping[str, Any]],
    nondiff: Collection[str],
    static: Collection[str],
    numbers: Collection[str] | None,
) -> _Taken:
    found, structure = jax.tree_util.tree_flatten_with_path(arguments)
    leaves = [value for _, value in found]
    slots = [names.of(path)[0] for path, _ in found]
    if numbers is None:
        has_others = any(
            isinstance(leaf, nn.Module) or (_is_array(leaf) and is_differentiable(leaf))
            for leaf in leaves
        )
        numbers = () if has_others else {*slots}.difference(static)
    leaves = [
        np.asarray(leaf, jax.dtypes.canonicalize_dtype(type(leaf)))
        if slot in numbers and _is_float(leaf)
        else leaf
        for leaf, slot in zip(leaves, slots, strict=True)
    ]
    arrays = {}
    for place, ((path, _), leaf) in enumerate(zip(found, leaves, strict=True)):
        slot, name = names.of(path)
        if _is_array(leaf) and slot not in static:
            wanted = slot not in nondiff and is_differentiable(leaf)
            arrays[place] = Input(
                _joined(name, path[2:]), leaf, wanted, slot, below(name, path_text(path[2:]))
            )
    modules = {
        place: below(names.of(found[place][0])[1], path_text(found[place][0][2:]))
        for place, leaf in enumerate(leaves)
        if isinstance(leaf, nn.Module)
    }
    return _Taken(leaves, structure, arrays, modules)


def _joined(name: str, path: Sequence[Any]) -> str:
    dotted = jax.tree_util.keystr(tuple(path), simple=True, separator=".")
    return f"{name}.{dotted}" if dotted else name


def _names(
    function: Callable[..., Any],
    signature: inspect.Signature,
    arguments: Arguments,
    keywords: Mapping[str, Any],
) -> _Names:
    """Name each argument by its parameter."""
    try:
        signature.bind(*arguments, **keywords)
    except TypeError as error:
        name = getattr(function, "__qualname__", "the function")
        raise ExampleError(
            f"the example's arguments do not fit `{name}{signature}`: {error}"
        ) from None
    names: list[str] = []
    others = ""
    for part in signature.parameters.values():
        if part.kind is inspect.Parameter.VAR_POSITIONAL:
            names += [f"{part.name}[{n}]" for n in range(len(arguments) - len(names))]
        elif part.kind is inspect.Parameter.VAR_KEYWORD:
            others = part.name
        else:
            names.append(part.name)
    return _Names(
        names,
        {
            key: (key, key) if key in signature.parameters else (others, f"{others}.{key}")
            for key in keywords
        },
    )


def _is_array(value: Any) -> bool:
    return isinstance(value, (jax.Array, np.ndarray, np.generic, jax.ShapeDtypeStruct))


# -- functions of arrays ---------------------------------------------------------------------------


def _of_arrays(function: Callable[..., Any], taken: _Taken) -> Subject:
    def calling(function: Callable[..., Any]) -> Callable[[Sequence[Any]], tuple[Any, Any]]:
        return lambda arrays: (taken.call(function, arrays), {})

    inputs, call = tuple(taken.arrays.values()), calling(function)
    with plain():
        jax.eval_shape(call, [each.value for each in inputs])
    return Subject(inputs, call, calling)


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
    values = [each.value for each in taken.arrays.values()]
    modules, is_first = [taken.leaves[place] for place in taken.modules], [*taken.modules] == [0]

    def rooted(function: Callable[..., Any]) -> tuple[nn.Module, Any]:
        return _rooted(modules, is_first, lambda *parts: taken.call(function, parts[1], parts[0]))

    root, run = rooted(function)
    initialize = None
    if isinstance(root.scope, Scope):
        root, setting = _setting_of(root)
    else:
        setting = _initialized(root, run, values, key, abstract)
        initialize = functools.partial(_init(run, root), {_PARAMS: key}, values)
    found, structure = jax.tree_util.tree_flatten_with_path((setting.variables, setting.rngs))
    owners = None if is_first else [*taken.modules.values()]
    first = next(iter(taken.modules.values()))
    variables = [_variable(path, value, grad_vars, first, owners) for path, value in found]

    def calling(function: Callable[..., Any]) -> Callable[[Sequence[Any]], tuple[Any, Any]]:
        _, run = rooted(function)

        def call(arrays: Sequence[Any]) -> tuple[Any, Any]:
            own, others = arrays[: len(variables)], arrays[len(variables) :]
            collections, rngs = jax.tree_util.tree_unflatten(structure, own)
            return _apply(root, run, _Setting(collections, rngs, setting.mutable), others)

        return call

    inputs = (*variables, *taken.arrays.values())
    return Subject(inputs, calling(function), calling, initialize)


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
    init = _init(run, root)
    with plain():
        variables = (jax.eval_shape if abstract else _run)(init, {_PARAMS: key}, values)
        others = [name for name in variables if name != _PARAMS]
        rngs: Mapping[str, Any] = {}
        try:
            changed = _changed(root, run, _Setting(variables, rngs, others or False), values)
        except InvalidRngError:
            rngs = {_PARAMS: key}
            changed = _changed(root, run, _Setting(variables, rngs, others or False), values)
    return _Setting(variables, rngs, changed or False)


def _init(run: Any, root: nn.Module) -> Callable[..., Any]:
    return nn.init(run, root, mutable=DenyList(_INTERMEDIATES))


def _run(function: Callable[..., Any], *arguments: Any) -> Any:
    """Run a function, compiled where it can be, which is faster than one operation at a time."""
    try:
        return jax.jit(lambda *given: function(*given))(*arguments)
    except jax.errors.ConcretizationTypeError:
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


def _variable(
    path: Sequence[Any],
    value: Any,
    grad_vars: Filter,
    first: str,
    owners: Sequence[str] | None,
) -> Input:
    """Name a variable, or a key of an application.

    Args:
        path: its key path.
        value: it.
        grad_vars: the collections that are differentiated.
        first: the name or path of the first module.
        owners: the names or paths of all; None where it is the first argument and the only one.
    """
    kind, (collection, *rest) = path[0].idx, path[1:]
    if kind == 1:
        return Input(f"rngs.{collection.key}", value, False)
    wanted = in_filter(grad_vars, collection.key) and is_differentiable(value)
    name = _joined(collection.key, rest)
    owner = first
    if owners is not None:
        owner = owners[int(str(rest[0].key).rpartition("_")[2])]
        rest = rest[1:]
    slot = owner.partition("[")[0].partition(".")[0]
    stem = collection.key if owners is None and owner == slot else f"{owner}.{collection.key}"
    return Input(name, value, wanted, slot, below(stem, path_text(rest)))
