"""`vjpgen.vjp` in forward and backward rules, and in modules that have none."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

import vjpgen


def mixed(features):
    """A module that holds others, with state and randomness."""
    return nn.Sequential(
        [
            nn.Dense(features),
            nn.BatchNorm(use_running_average=False),
            nn.Dropout(0.5, deterministic=False),
        ]
    )


class Forward(nn.Module):
    """A tuple of modules in a forward rule, where the vjp function is one residual of several."""

    @nn.compact
    def __call__(self, x):
        # custom-vjp: fwd=fwd, bwd=bwd
        def product(layers, x):
            return layers[0](x) * layers[1](x)

        def fwd(layers, x):
            y, vjp_fn = vjpgen.vjp(product, layers, x)
            return y, (vjp_fn, jnp.float32(2))

        def bwd(residuals, y_t):
            vjp_fn, factor = residuals
            layers_t, x_t = vjp_fn(y_t)
            return layers_t, factor * x_t

        return product((mixed(3), nn.Dense(3)), x)


def recomputed_fwd(layers, x, scale):
    return recomputed(layers, x, scale), (vjpgen.snapshot(layers), x, scale)


def recomputed_bwd(residuals, y_t):
    snapshot, x, scale = residuals
    return vjpgen.vjp(recomputed, snapshot.module(), x, scale)[1](y_t)


# custom-vjp: fwd=recomputed_fwd, bwd=recomputed_bwd, exact=True
def recomputed(layers, x, scale):
    return scale * layers["a"](x) + layers["b"][0](x)


class Backward(nn.Module):
    """A dict of modules, one of which two others share, in a backward rule."""

    @nn.compact
    def __call__(self, x):
        shared = nn.Dense(3)
        layers = {
            "a": nn.Sequential([shared, nn.tanh]),
            "b": [nn.Sequential([shared, nn.sigmoid, nn.Dense(3)])],
        }
        return recomputed(layers, x, 2.0 * x.sum())


class Method(nn.Module):
    """A module that holds another, differentiated in its own backward rule."""

    inner: Any

    # custom-vjp: fwd=fwd, bwd=bwd
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(self.inner(x))

    def fwd(self, x):
        return self(x), x

    def bwd(self, x, y_t):
        return vjpgen.vjp(Method.__call__, self, x)[1](y_t)


class Outside(nn.Module):
    """No rule: a gradient inside of a module, also while it is initialized."""

    @nn.compact
    def __call__(self, x):
        def scaled(layer, x, scale):
            return scale * layer(x)

        y, vjp_fn = vjpgen.vjp(scaled, nn.Sequential([nn.Dense(3), nn.tanh]), x, 2.0)
        variables_t, x_t, scale_t = vjp_fn(jnp.ones_like(y))
        return variables_t, x_t, scale_t, jax.lax.stop_gradient(y)
