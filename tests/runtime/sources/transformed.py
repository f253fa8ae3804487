"""Plain functions whose rules meet JAX's transforms, each with a `jax.custom_vjp` by hand."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.custom_derivatives import SymbolicZero
from jax.experimental import io_callback


def scaled(factor, g):
    """A gradient scaled by `factor`: put around another of its kind, both count."""

    # custom-vjp: fwd=fwd, bwd=bwd
    def f(x):
        return g(x)

    def fwd(x):
        return jax.vjp(jax.jit(f), x)

    def bwd(vjp_fn, y_t):
        return (factor * vjp_fn(y_t)[0],)

    return f


def scaled_module(factor, g):
    # custom-vjp: fwd=fwd, bwd=bwd
    def f(mdl, x):
        return g(mdl, x)

    def fwd(mdl, x):
        return nn.vjp(f, mdl, x)

    def bwd(vjp_fn, y_t):
        return jax.tree.map(lambda t: factor * t, vjp_fn(y_t))

    return f


class ScaledTwice(nn.Module):
    @nn.compact
    def __call__(self, x):
        inner = scaled_module(3.0, lambda mdl, x: mdl(x))
        return scaled_module(2.0, inner)(nn.Dense(3), x)


class Deeper(nn.Module):
    """A function of one place that calls itself for the layers below, each a rule of its own."""

    depth: int = 3

    @nn.compact
    def __call__(self, x):
        return self._layer(self.depth)(nn.Dense(3, name="dense"), x)

    def _layer(self, depth):
        below = self._layer(depth - 1) if depth > 1 else None

        # custom-vjp: fwd=fwd, bwd=bwd
        def f(mdl, x):
            x = jnp.tanh(mdl(x))
            return below(mdl, x) if below else x

        def fwd(mdl, x):
            return nn.vjp(f, mdl, x)

        def bwd(vjp_fn, y_t):
            params_t, x_t = vjp_fn(y_t)
            return params_t, depth * x_t

        return f


def doubled(vjp_fn, y_t):
    return vjp_fn(2 * y_t)


class Again(nn.Module):
    """A method under a lifted transform that calls itself; both calls have the rule."""

    # custom-vjp: bwd=doubled
    @partial(nn.jit, static_argnames="once")
    def __call__(self, x, *, once: bool = True):
        return jnp.sin(self(x, once=False) if once else x)


# custom-vjp: fwd=root_fwd, bwd=root_bwd
def root(a):
    """Newton's method: a `while_loop`, which has no reverse mode without the rule."""

    def going(state):
        return (jnp.abs(state[0] ** 2 - a) > 1e-6).any() & (state[1] < 30)

    def step(state):
        return 0.5 * (state[0] + a / state[0]), state[1] + 1

    return lax.while_loop(going, step, (jnp.ones_like(a), 0))[0]


def root_fwd(a):
    y = root(a)
    return y, y


def root_bwd(y, y_t):
    return (y_t / (2 * y),)


def _flow(x):
    """cos(x), by every kind of control flow."""
    y = lax.fori_loop(0, 2, lambda i, y: y + i, jnp.cos(x))
    y = lax.while_loop(lambda s: s[1] < 1, lambda s: (s[0] - 1, s[1] + 1), (y, 0))[0]
    y = lax.cond(x.sum() > 1e6, lambda y: -y, lambda y: y, y)
    y = lax.switch(1, [jnp.sin, lambda y: y, jnp.exp], y)
    return lax.scan(lambda y, _: (y, None), y, None, length=2)[0]


# custom-vjp: fwd=flowing_fwd, bwd=flowing_bwd
def flowing(x):
    """Control flow in the primal, the forward and the backward rule."""
    return jnp.sin(x) + 0 * _flow(x)


def flowing_fwd(x):
    return flowing(x), _flow(x)


def flowing_bwd(cos, y_t):
    return (lax.fori_loop(0, 3, lambda i, t: t + cos * y_t, jnp.zeros_like(y_t)),)


def _named(x, kernel):
    return jnp.sin(x @ kernel)


def named_fwd(x, kernel):
    inner = checkpoint_name(x @ kernel, "inner")
    return checkpoint_name(jnp.sin(inner), "y"), (checkpoint_name(jnp.cos(inner), "cos"), x, kernel)


def named_bwd(residuals, y_t):
    cos, x, kernel = residuals
    return 2 * (cos * y_t) @ kernel.T, x.T @ (cos * y_t)


# custom-vjp: fwd=named_fwd, bwd=named_bwd
def named(x, kernel):
    """Its forward rule names what a policy may save."""
    return _named(x, kernel)


named_by_hand = jax.custom_vjp(_named)
named_by_hand.defvjp(named_fwd, named_bwd)


def symbolic_fwd(x, y):
    output = x.value * y.value, x.value + y.value
    return output, (x.value, y.value, x.perturbed, y.perturbed)


def symbolic_bwd(residuals, tangents):
    x, y, x_perturbed, y_perturbed = residuals
    product_t, sum_t = (0.0 if isinstance(t, SymbolicZero) else t for t in tangents)
    x_t = 2 * (product_t * y + sum_t) + jnp.zeros_like(x) if x_perturbed else None
    y_t = 3 * (product_t * x + sum_t) + jnp.zeros_like(y) if y_perturbed else None
    return x_t, y_t


# custom-vjp: fwd=symbolic_fwd, bwd=symbolic_bwd, symbolic_zeros=True
def symbolic(x, y):
    return x * y, x + y


symbolic_by_hand = jax.custom_vjp(lambda x, y: (x * y, x + y))
symbolic_by_hand.defvjp(symbolic_fwd, symbolic_bwd, symbolic_zeros=True)


def opaque_fwd(x):
    return jnp.sin(x), jnp.cos(x)


def opaque_bwd(cos, y_t):
    return (2 * cos * y_t,)


# custom-vjp: fwd=opaque_fwd, bwd=opaque_bwd, optimize_remat=True
def opaque(x):
    return jnp.sin(x)


opaque_by_hand = jax.custom_vjp(jnp.sin)
opaque_by_hand.defvjp(opaque_fwd, opaque_bwd, optimize_remat=True)

LOG: list[str] = []


def _log(word, x):
    jax.debug.callback(lambda _: LOG.append(word), x.sum())


def _on_host(function, x):
    kind = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return jax.pure_callback(function, kind, x, vmap_method="sequential")


# custom-vjp: fwd=hosted_fwd, bwd=hosted_bwd
def hosted(x):
    """Every part runs on the host, and tells so."""
    _log("primal", x)
    return _on_host(np.sin, x)


def hosted_fwd(x):
    _log("forward", x)
    return hosted(x), x


def hosted_bwd(x, y_t):
    _log("backward", x)
    return (2 * _on_host(np.cos, x) * y_t,)


def _ordered(word, x):
    io_callback(lambda _: LOG.append(word), None, x.sum(), ordered=True)


# custom-vjp: fwd=ordered_fwd, bwd=ordered_bwd
def ordered(x):
    """Parts with effects that keep their order."""
    _ordered("primal", x)
    return jnp.sin(x)


def ordered_fwd(x):
    _ordered("forward", x)
    return ordered(x), x


def ordered_bwd(x, y_t):
    _ordered("backward", x)
    return (2 * jnp.cos(x) * y_t,)


# custom-vjp: fwd=tripled_fwd, bwd=tripled_bwd
def tripled(x):
    with jax.ensure_compile_time_eval():
        count = int(jnp.arange(3).sum())  # concrete while everything else is traced
    return count * x


def tripled_fwd(x):
    return tripled(x), None


def tripled_bwd(_, y_t):
    return (7 * y_t,)


def make_fresh(x):
    """A rule that is made anew at each call, around a value of that call."""
    total = x.sum()

    # custom-vjp: fwd=fwd, bwd=bwd, missing=zero
    def f(y):
        return y * total

    def fwd(y):
        return jnp.where(y > 0, y, y) * total, total

    def bwd(total, y_t):
        return (jnp.where(y_t > 0, y_t, y_t) * total,)

    return f(x)
