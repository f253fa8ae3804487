"""Annotated functions and modules; the suite of right rules runs what vjpgen makes of them."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp


def swish_fwd(x, beta):
    gate = jax.nn.sigmoid(beta * x)
    return x * gate, (x, beta, gate)


def swish_bwd(saved, y_t):
    x, beta, gate = saved
    slope = gate * (1 - gate)
    return y_t * (gate + beta * x * slope), (y_t * x**2 * slope).sum()


# custom-vjp: fwd=swish_fwd, bwd=swish_bwd, exact=True
def swish(x, beta):
    return x * jax.nn.sigmoid(beta * x)


def through(vjp_fn, y_t):
    return vjp_fn(y_t)


class Block(nn.Module):
    """A layer within a layer, one of them shared, with a boxed kernel."""

    # custom-vjp: bwd=through, exact=True
    @nn.compact
    def __call__(self, x):
        boxed = nn.with_partitioning(nn.initializers.lecun_normal(), ("rows", "columns"))
        shared = nn.Dense(x.shape[-1], kernel_init=boxed)
        return nn.tanh(shared(nn.tanh(shared(x))))


class Stack(nn.Module):
    """Two blocks, each with its rule, inside of a third."""

    # custom-vjp: bwd=through, missing=autodiff, exact=True
    @nn.compact
    def __call__(self, x):
        return Block()(x) + Block()(0.5 * x)


def kernel_alone(vjp_fn, y_t):
    params_t, x_t = vjp_fn(y_t)
    return {"params": {"Dense_0": {"kernel": params_t["params"]["Dense_0"]["kernel"]}}}, x_t


class Partly(nn.Module):
    """A rule for the kernel; the bias is left to autodiff."""

    # custom-vjp: bwd=kernel_alone, missing=autodiff, exact=True
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x)


def sign_bwd(vjp_fn, y_t):
    params_t, x_t = vjp_fn(y_t)
    return jax.tree.map(jnp.sign, params_t), x_t


class Signs(nn.Module):
    """Parameters learn by sign."""

    # custom-vjp: bwd=sign_bwd, surrogate=params, exact=x
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x)


class Noisy(nn.Module):
    """Dropout and batch norm below a rule."""

    # custom-vjp: bwd=through, missing=autodiff, exact=True
    @nn.compact
    def __call__(self, x):
        x = nn.BatchNorm(use_running_average=False)(nn.Dense(4)(x))
        return nn.Dropout(0.3, deterministic=False)(x)


class Around(nn.Module):
    """A rule that is nested in a method, and a captured value."""

    @nn.compact
    def __call__(self, x):
        scale = self.param("scale", nn.initializers.ones, ())

        def fwd(mdl, x):
            y = jnp.tanh(x)
            return y, y

        def bwd(y, y_t):
            return None, y_t * (1 - y**2)

        # custom-vjp: fwd=fwd, bwd=bwd, exact=True
        def activation(mdl, x):
            return jnp.tanh(x)

        return activation(self, x * scale) * scale
