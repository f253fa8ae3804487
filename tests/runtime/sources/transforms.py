"""A module that draws rngs and updates state, with rules: identity, surrogate, and by hand."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp


def body(kernel, mean, noise, x):
    """What every module here computes: an output, and a running mean of it."""
    y = jnp.tanh(x @ kernel + 0.1 * mean) + 0.1 * noise * x
    return y, 0.5 * mean + 0.5 * y.mean(axis=0)


def identity(vjp_fn, y_t):
    return vjp_fn(y_t)


def altered(vjp_fn, y_t):
    params_t, x_t = vjp_fn(y_t)
    return jax.tree.map(lambda t: t * (1 + t**2), params_t), 2 * x_t


class Cell(nn.Module):
    """The base: `step` makes the variables and runs the body."""

    def step(self, run, x):
        width = x.shape[-1]
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (width, width))
        mean = self.variable("stats", "mean", jnp.zeros, (width,))
        noise = jax.random.normal(self.make_rng("noise"), x.shape)
        y, updated = run(kernel, mean.value, noise, x)
        if self.is_mutable_collection("stats") and not self.is_initializing():
            mean.value = updated
        return y


class Exact(Cell):
    """Autodiff, all of it: gradients through the state included."""

    # custom-vjp: bwd=identity, missing=autodiff
    @nn.compact
    def __call__(self, x):
        return self.step(body, x)


class Surrogate(Cell):
    """A rule that alters each tangent."""

    # custom-vjp: bwd=altered, missing=zero
    @nn.compact
    def __call__(self, x):
        return self.step(body, x)


@jax.custom_vjp
def by_hand(kernel, mean, noise, x):
    return body(kernel, mean, noise, x)


def _by_hand_fwd(kernel, mean, noise, x):
    y, vjp_fn, updated = jax.vjp(
        lambda kernel, x: body(kernel, mean, noise, x), kernel, x, has_aux=True
    )
    return (y, updated), (vjp_fn, mean, noise)


def _by_hand_bwd(residuals, tangents):
    vjp_fn, mean, noise = residuals
    kernel_t, x_t = vjp_fn(tangents[0])
    return kernel_t * (1 + kernel_t**2), jnp.zeros_like(mean), jnp.zeros_like(noise), 2 * x_t


by_hand.defvjp(_by_hand_fwd, _by_hand_bwd)


class ByHand(Cell):
    """`Surrogate`, lifted by hand."""

    @nn.compact
    def __call__(self, x):
        return self.step(by_hand, x)
