"""Modules with state and randomness; the rules are the identity unless they say otherwise."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


def identity(vjp_fn, y_t):
    return vjp_fn(y_t)


class Ruled(nn.Module):
    # custom-vjp: bwd=identity
    @nn.compact
    def __call__(self, x):
        return jnp.tanh(nn.Dense(3)(x))


class NormTwice(nn.Module):
    """One BatchNorm, twice in a pass of the rule, which runs twice in a pass of the module."""

    def setup(self):
        self.norm = nn.BatchNorm(use_running_average=False, momentum=0.9)
        self.dense = Ruled()

    def __call__(self, x):
        return self.step(self.step(x)) + self.dense(x)

    # custom-vjp: bwd=identity
    def step(self, x):
        return self.norm(self.norm(self.dense(x)) * 2 + x)


def _add(a, b):
    return a + b


class Sows(nn.Module):
    # custom-vjp: bwd=identity
    @nn.compact
    def __call__(self, x):
        h = nn.Dense(3)(x)
        self.sow("intermediates", "h", h)
        self.sow("intermediates", "h", 2 * h)
        for part in (h.sum(), h.max()):
            self.sow("losses", "loss", part, reduce_fn=_add, init_fn=lambda: 0.0)
        join = lambda a, b: {**a, **b}  # noqa: E731
        self.sow("aux", "named", {"h": h, "n": 3}, reduce_fn=join, init_fn=dict)
        return h


class SowsTwice(nn.Module):
    def setup(self):
        self.sows = Sows()

    def __call__(self, x):
        return self.sows(self.sows(x))


class Creates(nn.Module):
    """Collections that there were none of, with values that are no arrays."""

    # custom-vjp: bwd=identity
    @nn.compact
    def __call__(self, x):
        h = nn.Dense(3)(x)
        if self.is_mutable_collection("cache"):
            last = self.variable("cache", "last", jnp.zeros, x.shape)
            last.value = jax.lax.stop_gradient(h)
        return CreatesBelow()(h)


class CreatesBelow(nn.Module):
    @nn.compact
    def __call__(self, x):
        if self.is_mutable_collection("cache"):
            self.put_variable("cache", "deep", {"array": jnp.ones(3), "number": 2})
        return x


class Draws(nn.Module):
    """Streams drawn from several times, by nested modules and by default."""

    # custom-vjp: bwd=identity
    @nn.compact
    def __call__(self, x):
        first = jax.random.normal(self.make_rng("noise"), x.shape)
        second = jax.random.normal(self.make_rng("noise"), x.shape)
        x = nn.Dropout(0.5, deterministic=False)(x * first + second)
        x = DrawsBelow()(x) + DrawsBelow()(x)
        default = jax.random.normal(self.make_rng(), x.shape)
        unknown = jax.random.normal(self.make_rng("unknown"), x.shape)
        return nn.Dense(3)(x) + default * unknown


class DrawsBelow(nn.Module):
    @nn.compact
    def __call__(self, x):
        noise = jax.random.normal(self.make_rng("noise"), x.shape)
        return x * noise + nn.Dropout(0.3, deterministic=False)(x)


class DrawsAround(nn.Module):
    @nn.compact
    def __call__(self, x):
        draws = Draws()
        y = draws(x) + draws(x)
        return y + jax.random.normal(self.make_rng("noise"), x.shape) + Draws()(x)


class Perturbs(nn.Module):
    # custom-vjp: bwd=identity, grad_vars=(params, perturbations)
    @nn.compact
    def __call__(self, x):
        h = self.perturb("h", nn.Dense(3)(x))
        return self.perturb("out", jnp.tanh(h))


class PerturbsByAutodiff(nn.Module):
    # custom-vjp: bwd=identity, missing=autodiff
    @nn.compact
    def __call__(self, x):
        h = self.perturb("h", nn.Dense(3)(x))
        return self.perturb("out", jnp.tanh(h))


class PerturbsStrictly(nn.Module):
    # custom-vjp: bwd=identity
    @nn.compact
    def __call__(self, x):
        h = self.perturb("h", nn.Dense(3)(x))
        return self.perturb("out", jnp.tanh(h))


class PerturbsAround(nn.Module):
    inner: Any

    @nn.compact
    def __call__(self, x):
        return self.perturb("around", self.inner()(x)) ** 2


class ByHand(nn.Module):
    """A forward rule that calls no module: nothing of the primal's is captured or sown in it."""

    # custom-vjp: fwd=forward, bwd=backward
    @nn.compact
    def __call__(self, x):
        self.sow("intermediates", "x", x)
        return nn.Dense(3, name="dense")(x)

    def forward(self, x):
        dense = self.variables["params"]["dense"]
        return x @ dense["kernel"] + dense["bias"], (x, dense["kernel"])

    def backward(self, residuals, y_t):
        x, kernel = residuals
        dense_t = {"kernel": x.T @ y_t, "bias": y_t.sum(0)}
        return {"params": {"dense": dense_t}}, y_t @ kernel.T


class Layer(nn.Module):
    @nn.compact
    def __call__(self, x):
        self.sow("intermediates", "x", x)
        self.sow("losses", "sum", x.sum(), reduce_fn=_add, init_fn=lambda: 0.0)
        calls = self.variable("stats", "calls", lambda: jnp.zeros((), jnp.int32))
        if self.is_mutable_collection("stats"):
            calls.value += 1
        x = nn.BatchNorm(use_running_average=False, momentum=0.5)(x)
        return nn.Dense(3)(nn.Dropout(0.5, deterministic=False)(x))


class CalledMore(nn.Module):
    """The forward rule calls the module twice, the primal once."""

    @nn.compact
    def __call__(self, x):
        # custom-vjp: fwd=fwd, bwd=identity
        def f(mdl, x):
            return mdl(x)

        def fwd(mdl, x):
            pair = nn.vjp(lambda mdl, x: mdl(x), mdl, x)
            mdl(x + 1)
            return pair

        layer = Layer()
        return f(layer, x) + jax.random.normal(self.make_rng("dropout"), x.shape)


class Twice(nn.Module):
    """What `CalledMore` does under differentiation, as an ordinary module."""

    @nn.compact
    def __call__(self, x):
        layer = Layer()
        y = layer(x)
        layer(x + 1)
        return y + jax.random.normal(self.make_rng("dropout"), x.shape)


# -- setups with effects -----------------------------------------------------------------------


class SetsUp(nn.Module):
    """Its `setup` draws and counts; methods with and without a rule use what it made."""

    def setup(self):
        self.dense = nn.Dense(3)
        self.noise = jax.random.normal(self.make_rng("noise"), (3,))
        self.calls = self.variable("stats", "calls", lambda: jnp.zeros((), int))
        if self.is_mutable_collection("stats"):
            self.calls.value += 1

    def __call__(self, x):
        y = self.ruled(x) + self.ruled(2 * x)
        return y * self.noise + jax.random.normal(self.make_rng("noise"), (3,))

    # custom-vjp: bwd=identity
    def ruled(self, x):
        return self.dense(x) * self.noise + self.calls.value


class SetsUpOnly(nn.Module):
    def setup(self):
        self.dense = nn.Dense(3)
        self.noise = jax.random.normal(self.make_rng("noise"), (3,))
        self.calls = self.variable("stats", "calls", lambda: jnp.zeros((), int))
        if self.is_mutable_collection("stats"):
            self.calls.value += 1

    # custom-vjp: bwd=identity
    def __call__(self, x):
        later = jax.random.normal(self.make_rng("noise"), (3,))
        return self.dense(x) * self.noise + self.calls.value + later

    def plain(self, x):
        return self.dense(x) * self.noise


class SetsUpAround(nn.Module):
    """The rule comes first, then a method without one."""

    @nn.compact
    def __call__(self, x):
        inner = SetsUpOnly()
        return inner(x) * inner(2 * x) + inner.plain(x)


class SetsUpArgument(nn.Module):
    @nn.compact
    def __call__(self, x):
        # custom-vjp: bwd=identity
        def f(mdl, x):
            return mdl.plain(x)

        inner = SetsUpOnly()
        return f(inner, x) * f(inner, 2 * x) + inner.plain(x)
