"""The measured modules, annotated: plain autodiff as they stand, vjpgen's once compiled.

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


def sloped(module, x):
    """What a `Sloped` computes."""
    return nn.leaky_relu(nn.Dense(module.features)(x), module.slope)


def attention(module, x):
    """What an `Attention` computes."""
    *lead, length, width = x.shape
    projected = nn.Dense(3 * width)(nn.LayerNorm()(x))
    split = projected.reshape(*lead, length, 3, module.heads, width // module.heads)
    query, key, value = (split[..., index, :, :] for index in range(3))
    scores = jnp.einsum("...qhd,...khd->...hqk", query, key) / (width // module.heads) ** 0.5
    causal = jnp.tril(jnp.ones((length, length), bool))
    weights = nn.softmax(jnp.where(causal, scores, -1e9))
    mixed = jnp.einsum("...hqk,...khd->...qhd", weights, value)
    return x + nn.Dense(width)(mixed.reshape(x.shape))


def mlp(module, x):
    """What an `Mlp` computes."""
    hidden = nn.gelu(nn.Dense(module.factor * x.shape[-1])(nn.LayerNorm()(x)))
    return x + nn.Dense(x.shape[-1])(hidden)


def residual(module, x):
    """What a `Residual` computes; it updates the statistics of its BatchNorms."""
    strides = (module.stride, module.stride)
    y = nn.Conv(module.features, (3, 3), strides, use_bias=False)(x)
    y = nn.relu(nn.BatchNorm(use_running_average=False)(y))
    y = nn.Conv(module.features, (3, 3), use_bias=False)(y)
    y = nn.BatchNorm(use_running_average=False)(y)
    if x.shape != y.shape:
        x = nn.Conv(module.features, (1, 1), strides)(x)
    return nn.relu(x + y)


def cell(module, carry, x):
    """What a `Cell` computes."""
    carry = jnp.tanh(nn.Dense(module.features)(carry) + nn.Dense(module.features)(x))
    return carry, carry


class Layer(nn.Module):
    features: int

    # custom-vjp: bwd=same
    @nn.compact
    def __call__(self, x):
        return dense(self, x)


class Sloped(nn.Module):
    features: int
    slope: float

    # custom-vjp: bwd=same
    @nn.compact
    def __call__(self, x):
        return sloped(self, x)


class Attention(nn.Module):
    heads: int

    # custom-vjp: bwd=same
    @nn.compact
    def __call__(self, x):
        return attention(self, x)


class Mlp(nn.Module):
    factor: int

    # custom-vjp: bwd=same
    @nn.compact
    def __call__(self, x):
        return mlp(self, x)


class Residual(nn.Module):
    features: int
    stride: int

    # custom-vjp: bwd=same
    @nn.compact
    def __call__(self, x):
        return residual(self, x)


class Cell(nn.Module):
    features: int

    # custom-vjp: bwd=same
    @nn.compact
    def __call__(self, carry, x):
        return cell(self, carry, x)
