"""`vjpgen.custom_vjp` and `vjpgen.vjp`: in place of Flax's functions of these names."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax
from flax.core.scope import Filter
from flax.linen.module import Module, wrap_method_once

from vjpgen.runtime import generic
from vjpgen.runtime.errors import AmbientNeededError, FlagsNeededError, NeededError
from vjpgen.runtime.lifting import make_rule
from vjpgen.runtime.modules import BuiltModules
from vjpgen.runtime.pullbacks import VjpFunction
from vjpgen.runtime.rule import Missing
from vjpgen.runtime.runs import ForwardRun
from vjpgen.runtime.splitting import Split
from vjpgen.runtime.wrapping import wrap


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
    share_traces: bool = True,
) -> Callable[..., Any]:
    """Give `fn` a gradient of its own; a drop-in for `flax.linen.custom_vjp`.

    The same runtime as generated modules use. For functions of modules and of scopes
    (`flax.core.lift.custom_vjp`), and for functions of arrays alone.

    Args:
        fn: the function; its first argument is a module, a scope, or a pytree of either.
        forward_fn: takes the arguments of `fn`, returns the output and the residuals. Under
            differentiation updates of variables are those that it makes, even where it calls a
            module more often than `fn` does; where JAX traces `fn` first (under `jit`, `scan`,
            `checkpoint`), `fn` settles which variables there are.
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
        share_traces: False traces each call on its own, however equal to others.

    Returns:
        A function with the signature of `fn`.

    Raises:
        TangentError: when called under differentiation with a `backward_fn` whose tangents do
            not fit.

    Source: https://flax.readthedocs.io/en/latest/api_reference/flax.linen/transformations.html#flax.linen.custom_vjp
    """
    fn = _unbound(fn)
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
        key=f"custom_vjp:{hash(tuple(map(_code, (fn, forward_fn, backward_fn))))}",
        claims={},
        example=None,
        defaults_have_slots=False,
        share_traces=share_traces,
    )
    return wrap(rule)


def vjp(
    fn: Callable[..., Any], module: Any, *primals: Any, grad_vars: Filter = "params"
) -> tuple[Any, VjpFunction]:
    """Differentiate a function of a module; as `flax.linen.vjp`, for every module and tree of them.

    For forward and backward rules: also where the module holds other modules as attributes, where
    `flax.linen.vjp` refuses it, and with tangents in the structure that a rule returns.

    Args:
        fn: the function; it is called with the module and the primals.
        module: a bound module, or a pytree of bound modules.
        primals: the other arguments.
        grad_vars: the collections that are differentiated: a Flax collection filter.

    Returns:
        The function's output, and its vjp function: it takes the output's cotangent, gives
        `(variable_tangents, *input_tangents)`, and can be a residual.

    Source: https://flax.readthedocs.io/en/latest/api_reference/flax.linen/transformations.html#flax.linen.vjp
    """
    fn = _unbound(fn)
    rule = make_rule(
        fn,
        generic.lifted,
        name=getattr(fn, "__qualname__", type(fn).__name__),
        at=_place(fn),
        forward=None,
        backward=lambda: _no_rule,
        grad_vars=grad_vars,
        nondiff_argnums=(),
        nondiff_argnames=(),
        missing=None,
        symbolic_zeros=False,
        optimize_remat=False,
        key="vjp",
        claims={},
        example=None,
        defaults_have_slots=False,
    ).for_call((module, *primals), {})
    slots, form = rule.bind((module, *jax.tree_util.tree_map(_as_array, primals)), {})
    try:
        return _differentiate(Split(rule, slots, form, _ALL_FLAGS))
    except AmbientNeededError:
        return _differentiate(Split(rule, slots, form, _ALL_FLAGS | {AmbientNeededError}))


# `vjp` differentiates whatever it is given: nobody need tell it what.
_ALL_FLAGS: frozenset[type[NeededError]] = frozenset({FlagsNeededError})


def _differentiate(split: Split) -> tuple[Any, VjpFunction]:
    run = ForwardRun(split, split.operands, BuiltModules([], []), None)
    output, vjp_fn = run.vjp()
    output, state = split.merge(run.outputs(output))
    split.publish(state)
    return output, vjp_fn


def _as_array(leaf: Any) -> Any:
    """Turn a Python number that has a tangent into an array, as `jax.vjp` does."""
    return jax.numpy.asarray(leaf) if isinstance(leaf, (float, complex)) else leaf


def _no_rule(vjp_fn: VjpFunction, cotangent: Any) -> Any:
    """Stand where a rule has its backward part; `vjp` makes none."""
    raise AssertionError("vjpgen.vjp runs no backward rule")


def _unbound(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of modules as one that takes the module first and runs as its method."""
    if inspect.ismethod(fn) and isinstance(fn.__self__, Module):
        fn = fn.__func__
    return wrap_method_once(fn) if hasattr(fn, "compact") else fn


def _code(fn: Callable[..., Any]) -> Any:
    """Return what tells a function from others, and is the same whenever it is made anew."""
    return getattr(inspect.unwrap(fn), "__code__", None) or getattr(fn, "__qualname__", type(fn))


def _place(fn: Callable[..., Any]) -> str:
    code = getattr(inspect.unwrap(fn), "__code__", None)
    if code is None:
        return ""
    file = code.co_filename.replace("\\", "/").rpartition("/")[2]
    return f"{file}:{code.co_firstlineno}"
