"""`vjpgen.custom_vjp`: in place of `flax.linen.custom_vjp` and `flax.core.lift.custom_vjp`."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable
from typing import Any

from flax.core.scope import Filter
from flax.linen.module import Module, wrap_method_once

from vjpgen.runtime import generic
from vjpgen.runtime.lifting import make_rule
from vjpgen.runtime.rule import Missing
from vjpgen.runtime.wrapping import wrap

_counter = itertools.count()


def custom_vjp(
    fn: Callable[..., Any],
    forward_fn: Callable[..., Any],
    backward_fn: Callable[..., Any],
    grad_vars: Filter = "params",
    nondiff_argnums: int | tuple[int, ...] = (),
    *,
    nondiff_argnames: str | tuple[str, ...] = (),
    missing: Missing = None,
    symbolic_zeros: bool = False,
    optimize_remat: bool = False,
) -> Callable[..., Any]:
    """Give `fn` a gradient of its own; a drop-in for `flax.linen.custom_vjp`.

    The same runtime as generated modules use. For functions of modules and of scopes
    (`flax.core.lift.custom_vjp`), and for functions of arrays alone.

    Args:
        fn: the function; its first argument is a module, a scope, or a pytree of either.
        forward_fn: takes the arguments of `fn`, returns the output and the residuals.
        backward_fn: takes the nondiff arguments, the residuals and the output's tangents; returns
            a tuple: the tangents of the variables, then one of each argument that is not nondiff,
            each of its primal's shape and dtype, or None for zero.
        grad_vars: the collections whose tangents `backward_fn` returns: a Flax collection filter.
        nondiff_argnums: places of arguments without a tangent; the module is 0.
        nondiff_argnames: names of such arguments.
        missing: what is done about tangents that the rule does not give: "error", "zero",
            "autodiff", or None for strict.
        symbolic_zeros: as in `jax.custom_vjp.defvjp`.
        optimize_remat: as in `jax.custom_vjp.defvjp`.

    Returns:
        A function with the signature of `fn`.

    Raises:
        TangentError: when called under differentiation with a `backward_fn` whose tangents do
            not fit.

    Source: https://flax.readthedocs.io/en/latest/api_reference/flax.linen/transformations.html#flax.linen.custom_vjp
    """
    if inspect.ismethod(fn) and isinstance(fn.__self__, Module):
        fn = fn.__func__
    if hasattr(fn, "compact"):
        fn = wrap_method_once(fn)
    rule = make_rule(
        fn,
        generic.lifted,
        name=getattr(fn, "__qualname__", type(fn).__name__),
        at=_place(fn),
        forward=lambda: forward_fn,
        backward=lambda: backward_fn,
        grad_vars=grad_vars,
        nondiff_argnums=nondiff_argnums,
        nondiff_argnames=nondiff_argnames,
        missing=missing,
        symbolic_zeros=symbolic_zeros,
        optimize_remat=optimize_remat,
        key=f"custom_vjp:{next(_counter)}",
        claims={},
        example=None,
        defaults_have_slots=False,
    )
    return wrap(rule)


def _place(fn: Callable[..., Any]) -> str:
    code = getattr(inspect.unwrap(fn), "__code__", None)
    if code is None:
        return ""
    file = code.co_filename.replace("\\", "/").rpartition("/")[2]
    return f"{file}:{code.co_firstlineno}"
