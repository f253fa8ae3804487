"""Feedback alignment: the error goes back through fixed random weights (Lillicrap et al., 2016)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

import vjpgen


class FeedbackDense(nn.Module):
    """A dense layer; its rule is a method and finds the feedback weights in the module."""

    features: int

    # custom-vjp: bwd=align, exact=params, surrogate=x, example=example
    @nn.compact
    def __call__(self, x):
        shape = (x.shape[-1], self.features)
        draw = nn.initializers.lecun_normal()
        kernel = self.param("kernel", draw, shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        self.variable("feedback", "kernel", lambda: draw(self.make_rng("params"), shape))
        return x @ kernel + bias

    def align(self, vjp_fn, y_t):
        params_t, _ = vjp_fn(y_t)
        return params_t, y_t @ self.get_variable("feedback", "kernel").T


class SignSymmetricDense(nn.Module):
    """A dense layer whose error sees the signs of its weights alone (Liao et al., 2016)."""

    features: int

    # custom-vjp: bwd=align, exact=params, surrogate=x, example=sign_example
    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.features, name="dense")(x)

    def align(self, vjp_fn, y_t):
        params_t, _ = vjp_fn(y_t)
        kernel = self.variables["params"]["dense"]["kernel"]
        return params_t, y_t @ jnp.sign(kernel).T


class Aligned(nn.Module):
    """Any layer or block, its input's gradient taken with a second draw of its parameters."""

    layer: nn.Module

    @nn.compact
    def __call__(self, x):
        twin = self.layer.clone(parent=None)
        feedback = self.variable(
            "feedback", "params", lambda: twin.init(self.make_rng("params"), x)["params"]
        ).value

        # custom-vjp: fwd=fwd, bwd=bwd, exact=layer, surrogate=x, example=any_layer
        def aligned(layer, x):
            return layer(x)

        def fwd(layer, x):
            y, vjp_fn = vjpgen.vjp(aligned, layer, x)
            _, feedback_vjp = jax.vjp(lambda x: twin.apply({"params": feedback}, x), x)
            return y, (vjp_fn, feedback_vjp)

        def bwd(residuals, y_t):
            vjp_fn, feedback_vjp = residuals
            params_t, _ = vjp_fn(y_t)
            return params_t, *feedback_vjp(y_t)

        return aligned(self.layer, x)


class Network(nn.Module):
    """Convolution and dense layers, each with its own way of feedback."""

    @nn.compact
    def __call__(self, x):
        x = Aligned(nn.Sequential([nn.Conv(3, (3, 3)), nn.tanh]))(x)
        x = x.reshape(*x.shape[:-3], -1)
        x = nn.tanh(FeedbackDense(5)(x))
        x = nn.tanh(SignSymmetricDense(5)(x))
        return FeedbackDense(2)(x)


def example(key):
    """Return a layer and a batch."""
    return FeedbackDense(3), jax.random.normal(key, (5, 4))


def sign_example(key):
    """Return a layer and a batch."""
    return SignSymmetricDense(3), jax.random.normal(key, (5, 4))


def any_layer(key):
    """Return a layer around another, and a batch."""
    return Aligned(nn.Dense(3)), jax.random.normal(key, (5, 4))
