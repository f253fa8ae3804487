"""Rules on arrays of every kind: what each test compares with is in the test."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen import fp8_ops


def identity(vjp_fn, y_t):
    return vjp_fn(y_t)


# custom-vjp: bwd=identity
def default(f, *args):
    return f(*args)


def call_fwd(f, *args):
    return f(*args), args


def call_bwd(f, args, y_t):
    _, pullback = jax.vjp(f, *args)
    return pullback(y_t)


# custom-vjp: fwd=call_fwd, bwd=call_bwd, nondiff_argnums=0
def recomputed(f, *args):
    """Arguments as residuals, tangents as `jax.vjp` gives them: `float0` among them."""
    return f(*args)


def pass_bwd(_, y_t):
    return y_t, y_t


# custom-vjp: bwd=pass_bwd
def complex_sum(z, w):
    """A rule sees cotangents as `jax.vjp` hands them on, unconjugated."""
    return z + w


def square_fwd(z):
    return z * z, z


def square_bwd(z, y_t):
    return (2 * z * y_t,)


# custom-vjp: fwd=square_fwd, bwd=square_bwd
def complex_square(z):
    return z * z


def modulus_fwd(z):
    return jnp.abs(z) ** 2, z


def modulus_bwd(z, y_t):
    """`y_t` is real; the tangent is complex: of x + iy it is d/dx - i d/dy."""
    return (2 * jnp.conj(z) * y_t,)


# custom-vjp: fwd=modulus_fwd, bwd=modulus_bwd
def modulus(z):
    return jnp.abs(z) ** 2


def other_fwd(x, other):
    return x, (x, other)


def other_bwd(residuals, y_t):
    x, other = residuals
    return jnp.zeros(x.shape, other.dtype), None


# custom-vjp: fwd=other_fwd, bwd=other_bwd
def other_dtype(x, other):
    """Its tangent has the dtype of `other`."""
    return x


class OtherDtype(nn.Module):
    """A rule that casts one parameter's tangent."""

    param_dtype: Any
    tangent_dtype: Any

    @nn.compact
    def __call__(self, x):
        def rule(vjp_fn, y_t):
            params_t, x_t = vjp_fn(y_t)
            bias = params_t["params"]["bias"].astype(self.tangent_dtype)
            return {"params": {**params_t["params"], "bias": bias}}, x_t

        # custom-vjp: bwd=rule
        def f(mdl, x):
            return mdl(x)

        return f(nn.Dense(3, param_dtype=self.param_dtype), x)


class Mixed(nn.Module):
    """Computes in one precision, keeps its parameters in another."""

    dtype: Any = jnp.bfloat16
    param_dtype: Any = jnp.float32

    # custom-vjp: bwd=identity
    @nn.compact
    def __call__(self, x):
        kinds = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = nn.LayerNorm(**kinds)(nn.Dense(4, **kinds)(x))
        return nn.Dense(3, **kinds)(nn.gelu(x))


class Quantised(nn.Module):
    """Integer weights beside a scale, both parameters; a mask and a count in the state."""

    dtype: Any = jnp.int8

    # custom-vjp: bwd=identity, missing=autodiff
    @nn.compact
    def __call__(self, x):
        shape = (x.shape[-1], 3)
        codes = self.param(
            "codes", lambda key: (jax.random.randint(key, shape, -4, 4)).astype(self.dtype)
        )
        scale = self.param("scale", nn.initializers.ones, (3,))
        mask = self.variable("state", "mask", lambda: jnp.array([True, False, True]))
        count = self.variable("state", "count", lambda: jnp.zeros((), jnp.uint8))
        if self.is_mutable_collection("state"):
            count.value += jnp.uint8(1)
            mask.value = ~mask.value
        return jnp.where(mask.value, x @ (codes.astype(x.dtype) * scale), 0)


class KeyInState(nn.Module):
    """A typed key among the variables, split at every call."""

    # custom-vjp: bwd=identity
    @nn.compact
    def __call__(self, x):
        key = self.variable("random", "key", lambda: jax.random.key(7))
        now, after = jax.random.split(key.value)
        if self.is_mutable_collection("random"):
            key.value = after
        return nn.Dense(3)(x * jax.random.normal(now, x.shape))


class KeyInMethods(nn.Module):
    """A key as argument, captured by the rules and kept for the backward rule."""

    # custom-vjp: fwd=forward, bwd=backward
    @nn.compact
    def __call__(self, x, key):
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (x.shape[-1], 3))
        return (x * jax.random.bernoulli(key, 0.5, x.shape)) @ kernel

    def forward(self, x, key):
        return self(x, key), (x, {"key": key})

    def backward(self, residuals, y_t):
        x, kept = residuals
        mask = jax.random.bernoulli(kept["key"], 0.5, x.shape)
        kernel = self.get_variable("params", "kernel")
        return {"params": {"kernel": (x * mask).T @ y_t}}, (y_t @ kernel.T) * mask, None


def noisy(key, gain):
    """The key and the gain are captured."""

    # custom-vjp: bwd=identity, missing=autodiff
    def f(x):
        return gain * x * jax.random.normal(key, x.shape)

    return f


class Scalars(nn.Module):
    """Parameters that are Python numbers and scalars."""

    # custom-vjp: bwd=identity
    @nn.compact
    def __call__(self, x):
        gain = self.param("gain", lambda key: 2.0)
        shift = self.param("shift", lambda key: jnp.asarray(0.5))
        return gain * x + shift


class Fp8(nn.Module):
    """The scales and histories of fp8 travel as the gradient of their collection."""

    # custom-vjp: bwd=identity, grad_vars=(params, _overwrite_with_gradient)
    @nn.compact
    def __call__(self, x):
        return nn.Dense(16, dot_general_cls=fp8_ops.Fp8DirectDotGeneralOp)(x)


def carry_fwd(x, scale, history):
    history = jnp.roll(history, 1).at[0].set(jnp.abs(x).max())
    coded = (x / scale).astype(jnp.float8_e4m3fn)
    return coded.astype(x.dtype) * scale, (scale, history)


def carry_bwd(residuals, y_t):
    """New state in place of a gradient."""
    scale, history = residuals
    return y_t, jnp.maximum(scale, history.max() / 448), history


# custom-vjp: fwd=carry_fwd, bwd=carry_bwd, state=(scale, history)
def carried(x, scale, history):
    return (x / scale).astype(jnp.float8_e4m3fn).astype(x.dtype) * scale


# custom-vjp: bwd=identity
def quantised_input(x, scale, history):
    """What Flax does, with a state whose cotangents add up by their maximum."""
    return fp8_ops.in_qdq(jnp.float32, jnp.float8_e4m3fn, x, scale, history)


def calibrated(scale, history):
    # custom-vjp: bwd=identity, missing=autodiff
    def f(x):
        return fp8_ops.in_qdq(jnp.float32, jnp.float8_e4m3fn, x, scale, history)

    return f


def three_bwd(_, y_t):
    return (3,)


# custom-vjp: bwd=three_bwd
def constant_slope(x):
    return 3 * x


def numpy_bwd(vjp_fn, y_t):
    return (np.full(y_t.shape, 3.0),)


# custom-vjp: bwd=numpy_bwd
def numpy_slope(x):
    return 3 * x


def numbers_fwd(mdl, x):
    return nn.vjp(lambda m, x: m(x), mdl, x)


class WithNumbers(nn.Module):
    """Python numbers in the output, which are not traced."""

    # custom-vjp: fwd=numbers_fwd, bwd=identity
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x), {"loss": 0.0, "rows": x.shape[0], "whole": True, "name": None}


RECORD = np.array([(1, 2.0)], dtype=[("rows", np.int32), ("gain", np.float32)])


# custom-vjp: bwd=identity
def with_record(x, record):
    """A NumPy record is no array of JAX's: it stays what it is."""
    return x * float(record["gain"][0])
