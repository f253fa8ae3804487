"""Gradients that are clipped, reversed, scaled."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp


def norm_of(tree):
    """Return the global norm of a tree."""
    return jnp.sqrt(sum(jnp.vdot(x, x).real for x in jax.tree.leaves(tree)))


def clipped(tree, limit):
    """Scale a tree down to a norm of at most `limit`."""
    norm = norm_of(tree)
    factor = jnp.where(norm > limit, limit / norm, 1)
    return jax.tree.map(lambda t: (t * factor).astype(t.dtype), tree)


# -- clipping of each layer ------------------------------------------------------------------------


class ClippedDense(nn.Module):
    """A dense layer whose parameters' gradient has a norm of at most `limit`."""

    features: int
    limit: float = 1.0

    # custom-vjp: bwd=clip, surrogate=params, exact=x, example=a_layer
    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.features)(x)

    def clip(self, vjp_fn, y_t):
        variables_t, x_t = vjp_fn(y_t)
        return clipped(variables_t, self.limit), x_t


def clip_fwd(x, limit):
    return x, limit


def clip_bwd(limit, x_t):
    return clipped(x_t, limit), None


# custom-vjp: fwd=clip_fwd, bwd=clip_bwd, surrogate=x, zero=limit, example=a_tree
def clip_gradient(x, limit):
    """Return a tree as it is; the gradient that comes back through it is clipped as a whole."""
    return x


# -- reversal, for adversarial features (Ganin and Lempitsky, 2015) --------------------------------


def reverse_fwd(x, strength):
    return x, strength


def reverse_bwd(strength, x_t):
    return -strength * x_t, None


# custom-vjp: fwd=reverse_fwd, bwd=reverse_bwd, surrogate=x, zero=strength, example=features
def reverse(x, strength):
    """Return `x`; its gradient is reversed, with a strength that a schedule may give."""
    return x


class Adversarial(nn.Module):
    """Features that a label is read from, and a domain cannot be."""

    @nn.compact
    def __call__(self, x, progress):
        features = nn.tanh(nn.Dense(5, name="features")(x))
        strength = 2 / (1 + jnp.exp(-10 * progress)) - 1
        return (
            nn.Dense(2, name="label")(features),
            nn.Dense(2, name="domain")(reverse(features, strength)),
        )


# -- loss scaling ----------------------------------------------------------------------------------


def unscale_fwd(params, scale, overflow):
    return params, (scale, overflow)


def unscale_bwd(residuals, params_t):
    """Divide by the scale; where something overflowed, drop the step and raise the flag."""
    scale, overflow = residuals
    params_t = jax.tree.map(lambda t: t / scale.astype(t.dtype), params_t)
    finite = jnp.all(jnp.array([jnp.isfinite(t).all() for t in jax.tree.leaves(params_t)]))
    safe = jax.tree.map(lambda t: jnp.where(finite, t, 0), params_t)
    return safe, None, jnp.where(finite, 0, 1).astype(overflow.dtype)


# custom-vjp: fwd=unscale_fwd, bwd=unscale_bwd, example=scaled
# custom-vjp: surrogate=params, state=overflow, zero=scale
def unscale(params, scale, overflow):
    """Return the parameters; their gradient is unscaled, that of `overflow` is a flag: 1. or 0."""
    return params


def scaled_gradient(loss, params, scale):
    """Differentiate `scale * loss(params)`; return the true gradient and the overflow flag."""

    def scaled(params, overflow):
        return scale * loss(unscale(params, scale, overflow))

    return jax.grad(scaled, (0, 1))(params, jnp.float32(0))


def next_scale(scale, overflow):
    """Halve the scale after an overflow, else let it grow."""
    return jnp.where(overflow > 0, scale / 2, scale * 1.5)


# -- examples --------------------------------------------------------------------------------------


def a_layer(key):
    """Return a layer whose gradient is clipped, and a batch."""
    return ClippedDense(3, limit=0.1), jax.random.normal(key, (5, 4))


def a_tree(key):
    """Return a tree whose gradient is clipped, and the limit."""
    return dict(zip("ab", jax.random.normal(key, (2, 3)), strict=True)), 0.5


def features(key):
    """Return features and a strength that is not 1."""
    return jax.random.normal(key, (4, 3)), jnp.array(0.7)


def scaled(key):
    """Return parameters, a scale and the flag."""
    return jax.random.normal(key, (3,)), jnp.array(8.0), jnp.array(0.0)
