"""How exact numbers of a dtype are, and by how much gradients may differ.

Two right gradients differ by rounding. How much that may be is told by the dtype, by the size of
the gradient, and by the pieces that cancel in it: a gradient that is the small difference of
large pieces has the rounding errors of those. They are not seen in it, but the same gradient
computed in two precisions differs by them, so that its noise is measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr
from jax.interpreters import partial_eval

# In units of the dtype's epsilon: how much a component may differ beside the leaf's largest, and
# how much beside itself.
_OF_LEAF = {"float64": 4.0e4, "float32": 64.0, "float16": 16.0, "bfloat16": 8.0}
_OF_ITSELF = {"float64": 4.0e8, "float32": 2.0e3, "float16": 16.0, "bfloat16": 8.0}
_NOISE = 16.0


@dataclass(frozen=True)
class Tolerance:
    """By how much a component of a gradient may differ from the reference.

    Args:
        relative: beside the component itself.
        floor: beside the largest component of the leaf.
        absolute: besides.
    """

    relative: float
    floor: float
    absolute: float = 0.0

    def allowed(self, reference: np.ndarray[Any, Any], largest: float) -> np.ndarray[Any, Any]:
        """Return the difference that is allowed for each component."""
        return self.relative * np.abs(reference) + self.floor * largest + self.absolute


def epsilon(dtype: Any) -> float:
    """Return the distance from 1 to the next number of a dtype, of complex ones by their parts."""
    return float(jnp.finfo(dtype).eps)


def tolerance_of(dtype: Any, *, noise: float = 0.0) -> Tolerance:
    """Return what fits a dtype.

    Args:
        dtype: the coarsest dtype that the gradient is computed in.
        noise: how far apart two right gradients were found to be, in that dtype.
    """
    unit = epsilon(dtype)
    name = _real(dtype)
    relative = min(_OF_ITSELF.get(name, 2.0) * unit, 0.25)
    return Tolerance(relative, min(_OF_LEAF.get(name, 2.0) * unit, 0.25), _NOISE * noise)


def asked_for(rtol: float | None, atol: float | None, fitting: Tolerance) -> Tolerance:
    """Return the tolerance that a user asks for; what is not asked for stays as it fits.

    Args:
        rtol: beside the largest component of the leaf.
        atol: besides.
        fitting: what fits the dtype.
    """
    if rtol is not None:
        fitting = Tolerance(rtol, rtol, fitting.absolute)
    if atol is not None:
        fitting = Tolerance(fitting.relative, fitting.floor, atol)
    return fitting


def _real(dtype: Any) -> str:
    """Name the dtype of the parts of a complex one."""
    name = np.dtype(dtype).name
    return {"complex128": "float64", "complex64": "float32"}.get(name, name)


# -- what a function computes in -------------------------------------------------------------------


def coarsest(jaxprs: Sequence[Any], at_most: Any, limit: float = np.inf) -> Any:
    """Return the least exact floating point dtype that is computed in.

    Args:
        jaxprs: what is computed.
        at_most: the dtype of the inputs.
        limit: dtypes whose epsilon is larger do not count.
    """
    found = at_most
    for jaxpr in jaxprs:
        for dtype in _dtypes(jaxpr):
            if epsilon(found) < epsilon(dtype) <= limit:
                found = dtype
    return found


def allowed_dtype(source: Sequence[Any], custom: Sequence[Any], at_most: Any, own: float) -> Any:
    """Return the least exact dtype that a rule may compute in.

    That of the source; and one that is no coarser than the example.

    Args:
        source: what the source computes.
        custom: what the function with its rule computes.
        at_most: the dtype of the inputs.
        own: the epsilon of the example's dtype.
    """
    found = coarsest(source, at_most)
    return coarsest(custom, found, limit=max(own, epsilon(found)))


def leading_to(jaxpr: Any, places: Sequence[int]) -> Any:
    """Return what leads to some results of a program, counted from the end where negative."""
    wanted = {place % len(jaxpr.jaxpr.outvars) for place in places}
    used = [place in wanted for place in range(len(jaxpr.jaxpr.outvars))]
    return partial_eval.dce_jaxpr(jaxpr.jaxpr, used)[0]


def draws(jaxpr: Any) -> bool:
    """Tell whether a program draws random numbers."""
    return any("random" in name or "rng" in name or "threefry" in name for name in _names(jaxpr))


def _names(jaxpr: Any) -> Iterator[str]:
    for equation in _equations(jaxpr):
        yield equation.primitive.name


def _dtypes(jaxpr: Any) -> Iterator[Any]:
    """Yield the floating point dtypes that operations give, constants apart."""
    for equation in _equations(jaxpr):
        for out in equation.outvars if equation.invars else ():
            dtype = getattr(out.aval, "dtype", None)
            if dtype is not None and jnp.issubdtype(dtype, np.inexact):
                yield dtype


def _equations(jaxpr: Any) -> Iterator[Any]:
    """Yield the operations of a program, those of inner ones too."""
    jaxpr = jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.tree_util.tree_leaves(
            list(equation.params.values()), is_leaf=lambda leaf: isinstance(leaf, Jaxpr)
        ):
            if isinstance(inner, (Jaxpr, ClosedJaxpr)):
                yield from _equations(inner)
