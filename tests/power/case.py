"""A rule with arguments to check it on: one that is right, or wrong in one known way."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Function = Callable[..., Any]
Arguments = Callable[[np.random.Generator], tuple[Any, ...]]
Make = Callable[[], Function]


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """One rule of the suites.

    Args:
        name: tells it from all others.
        kind: the row of the table: the way in which it is wrong, or what is hard about it.
        about: what it says of itself.
        make: makes the function anew; what a wrong rule keeps between calls begins anew with it.
        arguments: draws arguments.
        claims: keywords of `check_rule`.
        control: makes the same function with a rule that is right, where this one's is wrong.
        finds: the checks of `check_rule` any of which may find a wrong rule.
    """

    name: str
    kind: str
    about: str
    make: Make
    arguments: Arguments
    claims: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    control: Make | None = None
    finds: tuple[str, ...] = ()


class Real:
    """Subclasses are functions with a right rule, as people write them, and arguments.

    Their docstring says what they are. All take arguments of every float dtype.
    """

    nondiff: tuple[int, ...] = ()
    primal: Function
    forward: Function
    backward: Function
    arguments: Arguments

    @classmethod
    def make(
        cls,
        *,
        primal: Function | None = None,
        forward: Function | None = None,
        backward: Function | None = None,
        by: Callable[..., Function] | None = None,
    ) -> Function:
        """Make the function with its rule, or with a part of it replaced.

        Args:
            primal: another primal.
            forward: another forward rule.
            backward: another backward rule.
            by: makes a function of primal, forward and backward; by default `jax.custom_vjp`.
        """
        parts = primal or cls.primal, forward or cls.forward, backward or cls.backward
        return by_jax(*parts, cls.nondiff) if by is None else by(*parts)


def by_jax(
    primal: Function, forward: Function, backward: Function, nondiff: tuple[int, ...] = ()
) -> Function:
    """Make a function with a rule by `jax.custom_vjp`."""
    function = jax.custom_vjp(primal, nondiff_argnums=nondiff)
    function.defvjp(forward, backward)
    return function


def drawn(*shapes: Sequence[int], scale: float = 1.0) -> Arguments:
    """Return what draws an array of each shape."""

    def draw(rng: np.random.Generator) -> tuple[Any, ...]:
        return tuple(normal(rng, shape, scale) for shape in shapes)

    return draw


def normal(rng: np.random.Generator, shape: Sequence[int], scale: float = 1.0) -> jax.Array:
    """Draw an array in single precision."""
    return jnp.asarray(scale * rng.normal(size=tuple(shape)), jnp.float32)


def of_dtype(arguments: Arguments, dtype: Any) -> Arguments:
    """Return what draws the same in another precision."""
    return mapped(arguments, lambda x: x.astype(dtype))


def of_scale(arguments: Arguments, *scales: float) -> Arguments:
    """Return what draws the same at another scale, one for all arguments or one for each."""

    def draw(rng: np.random.Generator) -> tuple[Any, ...]:
        found = arguments(rng)
        each = scales * len(found) if len(scales) == 1 else scales
        return tuple(
            _changed(x, lambda leaf, by=by: leaf * leaf.dtype.type(by))
            for x, by in zip(found, each, strict=True)
        )

    return draw


def mapped(arguments: Arguments, change: Function) -> Arguments:
    """Return what draws the same with every array of floats changed."""
    return lambda rng: _changed(arguments(rng), change)


def _changed(tree: Any, change: Function) -> Any:
    def leaf(x: Any) -> Any:
        floats = isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jnp.inexact)
        return change(x) if floats else x

    return jax.tree.map(leaf, tree)
