"""A quantised `dot_general` for Flax's own layers, in the manner of AQT."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp


def quantise(x, axes):
    """Round to 8-bit integers along the contracted axes: integers and their scale."""
    scale = jnp.abs(x).max(axis=axes, keepdims=True) / 127
    scale = jnp.where(scale == 0, 1, scale)
    return jnp.round(x / scale).astype(jnp.int8), scale


class Int8DotGeneral(nn.Module):
    """Multiply 8-bit integers in the forward pass, floats in the backward pass.

    A calibrated factor, kept with the parameters, scales the result; `seen` counts the calls.
    """

    # custom-vjp: fwd=multiply_fwd, bwd=multiply_bwd, grad_vars=True
    # custom-vjp: nondiff_argnames=(dimension_numbers, precision, preferred_element_type)
    # custom-vjp: exact=params, surrogate=(lhs, rhs), example=example
    @nn.compact
    def __call__(self, lhs, rhs, dimension_numbers, precision=None, preferred_element_type=None):
        gain = self.param("gain", nn.initializers.ones, ())
        seen = self.variable("statistics", "seen", jnp.zeros, (), jnp.int32)
        if self.is_mutable_collection("statistics") and not self.is_initializing():
            seen.value += 1
        (lhs_axes, rhs_axes), _ = dimension_numbers
        lhs8, lhs_scale = quantise(lhs, lhs_axes)
        rhs8, rhs_scale = quantise(rhs, rhs_axes)
        total = jax.lax.dot_general(lhs8, rhs8, dimension_numbers, preferred_element_type=jnp.int32)
        scale = jax.lax.dot_general(lhs_scale, rhs_scale, dimension_numbers)
        return gain * total.astype(lhs.dtype) * scale

    @nn.compact
    def multiply_fwd(self, lhs, rhs, dimension_numbers, precision, preferred_element_type):
        y = self(lhs, rhs, dimension_numbers, precision, preferred_element_type)
        return y, (lhs, rhs, y)

    def multiply_bwd(self, dimension_numbers, precision, preferred_element_type, residuals, y_t):
        lhs, rhs, y = residuals
        gain = self.get_variable("params", "gain")

        def multiply(lhs, rhs):
            return jax.lax.dot_general(
                lhs, rhs, dimension_numbers, precision, preferred_element_type
            )

        lhs_t, rhs_t = jax.vjp(multiply, lhs, rhs)[1](gain * y_t)
        variables_t = {"params": {"gain": (y * y_t).sum() / gain}, "statistics": None}
        return variables_t, lhs_t, rhs_t


class Network(nn.Module):
    """Layers of Flax with the product put in."""

    @nn.compact
    def __call__(self, x):
        x = nn.tanh(nn.Dense(6, dot_general_cls=Int8DotGeneral)(x))
        x = nn.DenseGeneral((2, 3), dot_general_cls=Int8DotGeneral)(x)
        return nn.DenseGeneral(4, axis=(-2, -1), dot_general_cls=Int8DotGeneral)(nn.tanh(x))


def example(key):
    """Return the product, two matrices and what of them is contracted."""
    lhs, rhs = jax.random.normal(key, (2, 4, 4))
    return Int8DotGeneral(), lhs, rhs, (((1,), (0,)), ((), ()))
