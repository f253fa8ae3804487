"""The measured layers, annotated: plain autodiff as they stand, vjpgen's once compiled.

Their rule is the vjp function itself, so that every variant has the same gradient and the same
work to do on the device; what differs is the cost of getting there.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp


def same(vjp_fn, y_t):
    return vjp_fn(y_t)


def dense(module, x):
    """What a `Layer` computes."""
    return nn.relu(nn.Dense(module.features)(x))


def transformer(module, x):
    """What a `Block` computes."""
    width = x.shape[-1]
    normed = nn.LayerNorm()(x)
    query, key, value = jnp.split(nn.Dense(3 * width)(normed), 3, axis=-1)
    weights = nn.softmax(query @ jnp.swapaxes(key, -1, -2) / jnp.sqrt(width))
    x = x + nn.Dense(width)(weights @ value)
    hidden = nn.gelu(nn.Dense(4 * module.features)(nn.LayerNorm()(x)))
    return x + nn.Dense(width)(hidden)


class Layer(nn.Module):
    features: int

    # custom-vjp: bwd=same
    @nn.compact
    def __call__(self, x):
        return dense(self, x)


class Block(nn.Module):
    features: int

    # custom-vjp: bwd=same
    @nn.compact
    def __call__(self, x):
        return transformer(self, x)
