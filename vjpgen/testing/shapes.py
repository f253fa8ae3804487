"""Arguments made up for a function whose arrays are annotated with the types of jaxtyping.

A name of a dimension has one size in all of a function's arguments, and no two names the same
one, so that a rule that mixes them up fails. What jaxtyping is asked is public, and it is asked
only where the user's module has imported it.
"""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import re
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vjpgen.testing.examples import Arguments, ExampleError

_SIZES = (3, 4, 2, 5)
_VARIADIC = (2,)
_PREFERRED = ("float32", "int32", "bool", "complex64", "uint32")
_KEY = "prng_key"
_MODIFIERS = "#*?"
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def arguments_from_annotations(
    function: Callable[..., Any], module_class: type | None = None, key: Any = None
) -> Arguments | None:
    """Make up positional arguments of a function from its annotations.

    Arrays hold normal numbers of 32 bits; integers are 0 or 1, which are places in any dimension.
    Parameters that are no arrays keep their defaults.

    Args:
        function: the function; its arrays are annotated as `x: Float[Array, "batch features"]`.
        module_class: the class of a Linen module, where `function` is its method. The module is
            made with the defaults of its fields.
        key: what the values come from; by default `jax.random.key(0)`.

    Returns:
        The arguments, the unbound module first for a method; None where no parameter is annotated
        with a type of jaxtyping.

    Raises:
        ExampleError: some parameters are annotated so, but the arguments cannot be made; the
            text says why.
    """
    parameters = list(inspect.signature(function).parameters.values())
    hints = {each.name: _hint(function, each) for each in parameters}
    if not any(_array_type(hint) for hint in hints.values()):
        return None
    maker = _Maker(_sizes(hints.values()), jax.random.key(0) if key is None else key)
    if module_class is not None and parameters:
        maker.made[parameters[0].name] = _module(module_class)
    for parameter in parameters:
        if parameter.name not in maker.made:
            maker.add(parameter, hints[parameter.name])
    return tuple(maker.positional)


# -- annotations -----------------------------------------------------------------------------------


def _hint(function: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """Return a parameter's annotation; text is evaluated where the function is defined."""
    annotation = parameter.annotation
    if annotation is parameter.empty or not isinstance(annotation, str):
        return annotation
    within = getattr(inspect.unwrap(getattr(function, "__func__", function)), "__globals__", {})
    holder = types.SimpleNamespace(__annotations__={parameter.name: annotation})
    try:
        return typing.get_type_hints(holder, within)[parameter.name]
    except Exception:  # what evaluates it is the user's code, or a type checker's alone
        return annotation


def _array_type(hint: Any) -> Any:
    """Return the type of jaxtyping that an annotation is or begins with; None where it is none."""
    jaxtyping = sys.modules.get("jaxtyping")
    if jaxtyping is None:
        return None
    if isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray):
        return hint
    if typing.get_origin(hint) is typing.Annotated:
        return _array_type(typing.get_args(hint)[0])
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        found = map(_array_type, typing.get_args(hint))
        return next((each for each in found if each is not None), None)
    return None


def _tokens(hint: Any) -> Iterator[str]:
    """Yield the dimensions of an array's type, without what documents them (`rows=4`)."""
    for token in hint.dim_str.split():
        yield token if "{" in token else token.rpartition("=")[2]


def _name_of(token: str) -> str:
    """Return a dimension without its modifiers; "" for one without a name."""
    bare = token.lstrip(_MODIFIERS)
    return "" if bare.startswith("_") or bare == "..." else bare


def _sizes(hints: Any) -> dict[str, int]:
    """Give each name of a dimension a size of its own."""
    found = [each for each in map(_array_type, hints) if each is not None]
    tokens = [token for each in found for token in _tokens(each) if not _is_variadic(token)]
    names = list(dict.fromkeys(name for name in map(_name_of, tokens) if name.isidentifier()))
    fixed = {int(name) for name in map(_name_of, tokens) if name.isdecimal()}
    free = (size for size in itertools.chain(_SIZES, itertools.count(6)) if size not in fixed)
    return dict(zip(names, free, strict=False))


def _is_variadic(token: str) -> bool:
    return token == "..." or "*" in token[: len(token) - len(token.lstrip(_MODIFIERS))]


# -- values ----------------------------------------------------------------------------------------


class _Maker:
    """Makes one argument after another."""

    def __init__(self, sizes: Mapping[str, int], key: Any) -> None:
        self._sizes = sizes
        self._key = key
        self._draw = np.random.default_rng(np.ravel(jax.random.key_data(key)))
        self.made: dict[str, Any] = {}
        self._rest: list[Any] = []

    @property
    def positional(self) -> list[Any]:
        """The arguments, in order."""
        return [*self.made.values(), *self._rest]

    def add(self, parameter: inspect.Parameter, hint: Any) -> None:
        """Make a parameter's argument, or take its default."""
        kind = _array_type(hint)
        if parameter.kind is parameter.VAR_POSITIONAL:
            self._rest = [] if kind is None else [self._array(kind, parameter) for _ in range(2)]
        elif parameter.kind is parameter.VAR_KEYWORD:
            return
        elif parameter.kind is parameter.KEYWORD_ONLY:
            if parameter.default is parameter.empty:
                raise ExampleError(
                    f"`{parameter.name}` is a keyword-only argument without a default"
                )
        elif kind is not None:
            self.made[parameter.name] = self._array(kind, parameter)
        elif parameter.default is not parameter.empty:
            self.made[parameter.name] = parameter.default
        elif isinstance(hint, type) and issubclass(hint, nn.Module):
            self.made[parameter.name] = _module(hint)
        else:
            raise ExampleError(f"`{parameter.name}` has no default and {_said(hint)}")

    def _array(self, hint: Any, parameter: inspect.Parameter) -> Any:
        shape = self._shape(hint, parameter)
        dtype = _dtype(hint, parameter)
        if dtype == _KEY:
            self._key, key = jax.random.split(self._key)
            return jax.random.split(key, shape) if shape else key
        if not jnp.issubdtype(dtype, jnp.inexact):
            return jnp.asarray(self._draw.integers(0, 2, shape), dtype)
        values = self._draw.normal(size=shape)
        if jnp.issubdtype(dtype, jnp.complexfloating):
            values = values + 1j * self._draw.normal(size=shape)
        return jnp.asarray(values, dtype)

    def _shape(self, hint: Any, parameter: inspect.Parameter) -> tuple[int, ...]:
        shape: list[int] = []
        for token in _tokens(hint):
            if _is_variadic(token):
                shape += _VARIADIC
            else:
                shape.append(self._size(token, parameter))
        return tuple(shape)

    def _size(self, token: str, parameter: inspect.Parameter) -> int:
        """Return the size of one dimension: a name's, a number, or an expression of names."""
        name = _name_of(token)
        if not name:
            return _SIZES[0]
        if name in self._sizes:
            return self._sizes[name]
        try:
            text = re.sub(r"\{([^{}]*)\}", lambda m: str(eval(m[1], {}, self.made)), name)
            size = int(eval(text, {"__builtins__": {}}, dict(self._sizes)))
        except Exception as error:
            raise ExampleError(
                f"the dimension `{token}` of `{parameter.name}` cannot be worked out: {error}"
            ) from None
        if size < 0:
            raise ExampleError(f"the dimension `{token}` of `{parameter.name}` would be {size}")
        return size


def _dtype(hint: Any, parameter: inspect.Parameter) -> Any:
    """Choose among the dtypes that a type allows."""
    allowed = hint.dtypes
    if not isinstance(allowed, Sequence):  # any
        return _PREFERRED[0]
    if _KEY in allowed:
        return _KEY
    chosen = next((name for name in _PREFERRED if name in allowed), next(iter(allowed), ""))
    try:
        return jax.dtypes.canonicalize_dtype(chosen)
    except TypeError:
        raise ExampleError(
            f"`{parameter.name}` is of a dtype that JAX does not have, {chosen!r}"
        ) from None


def _module(kind: type) -> Any:
    """Make a module with the defaults of its fields."""
    if not issubclass(kind, nn.Module):
        raise ExampleError(f"`{kind.__qualname__}` is no Linen module")
    needed = [
        field.name
        for field in dataclasses.fields(kind)
        if field.init
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if needed:
        names = ", ".join(f"`{name}`" for name in needed)
        raise ExampleError(
            f"the module `{kind.__qualname__}` cannot be made: {names} "
            f"{'has' if len(needed) == 1 else 'have'} no default"
        )
    return kind()


def _said(hint: Any) -> str:
    if hint is inspect.Parameter.empty:
        return "no annotation"
    if isinstance(hint, str):
        return f"its annotation, `{hint}`, cannot be evaluated"
    return f"its annotation, `{inspect.formatannotation(hint)}`, gives no shape"
