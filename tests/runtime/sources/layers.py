"""Linen modules that hurt, each with the identity rule: its gradients are autodiff's, exactly."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


def identity(vjp_fn, y_t):
    return vjp_fn(y_t)


def through_vjp(mdl, *args, **kwargs):
    return nn.vjp(lambda m, *a: m(*a, **kwargs), mdl, *args)


class Compact(nn.Module):
    features: int = 4

    # custom-vjp: bwd=identity
    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.features)(x)


class Setup(nn.Module):
    features: int = 4

    def setup(self):
        self.inner = nn.Dense(self.features)
        self.layers = [nn.Dense(3), Compact(2)]
        self.scale = self.param("scale", nn.initializers.ones, ())

    # custom-vjp: bwd=identity
    def __call__(self, x):
        x = self.inner(x)
        for layer in self.layers:
            x = layer(x)
        return self.scale * x


class OtherName(nn.Module):
    def setup(self):
        self.dense = nn.Dense(3)

    def __call__(self, x):
        return self.encode(x) @ self.encode(x).T

    # custom-vjp: bwd=identity
    def encode(self, x):
        return jnp.tanh(self.dense(x))


class Stateful(nn.Module):
    """BatchNorm, dropout, sow and a counter, twice in one pass."""

    # custom-vjp: bwd=identity
    @nn.compact
    def __call__(self, x, train: bool = False):
        norm = nn.BatchNorm(use_running_average=not train, momentum=0.9)
        x = nn.relu(norm(nn.Dense(5)(x)))
        x = nn.Dropout(0.5, deterministic=not train)(x)
        self.sow("intermediates", "hidden", x)
        count = self.variable("counter", "calls", lambda: jnp.zeros((), jnp.int32))
        if self.is_mutable_collection("counter"):
            count.value += 1
        return norm(x)


class Noisy(nn.Module):
    # custom-vjp: bwd=identity
    @nn.compact
    def __call__(self, x):
        first = jax.random.normal(self.make_rng("noise"), x.shape)
        x = x * first + Compact(3)(x).sum()
        return x + jax.random.normal(self.make_rng("noise"), x.shape)


class Boxed(nn.Module):
    # custom-vjp: bwd=identity
    @nn.compact
    def __call__(self, x):
        init = nn.with_partitioning(nn.initializers.lecun_normal(), (None, "model"))
        return nn.Dense(4, kernel_init=init)(x)


class Shared(nn.Module):
    """A module that is passed on as an attribute and used from two places."""

    @nn.compact
    def __call__(self, x):
        table = nn.Dense(x.shape[-1], name="table")
        return Uses(table)(x) + Uses(table)(2 * x)


class Uses(nn.Module):
    shared: Any

    # custom-vjp: bwd=identity
    @nn.compact
    def __call__(self, x):
        return nn.Dense(x.shape[-1])(jnp.sin(self.shared(x)))


class CalledTwice(nn.Module):
    def setup(self):
        self.block = Compact(3)

    def __call__(self, x):
        return self.block(self.block(x))


class Nested(nn.Module):
    """The same class inside itself."""

    depth: int = 2

    # custom-vjp: fwd=through_vjp, bwd=identity
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(3)(x)
        return Nested(self.depth - 1)(x) if self.depth else x


class NestedFunction(nn.Module):
    """The form of every known project: function, forward and backward nested in a method."""

    features: int = 4

    @nn.compact
    def __call__(self, x):
        gain = self.param("gain", nn.initializers.ones, (self.features,))

        # custom-vjp: fwd=fwd, bwd=bwd
        def f(mdl, x):
            return mdl(x)

        def fwd(mdl, x):
            return nn.vjp(f, mdl, x)

        def bwd(vjp_fn, y_t):
            return vjp_fn(y_t)

        return gain * f(nn.Dense(self.features), x)


class OnSelf(nn.Module):
    """A nested function of the module itself, which creates submodules."""

    features: int = 4

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(3)(x)

        # custom-vjp: bwd=bwd
        def body(mdl, x):
            return nn.Dense(mdl.features)(x)

        def bwd(vjp_fn, y_t):
            return vjp_fn(y_t)

        x = body(self, x)
        return nn.Dense(2)(x)


class Signature(nn.Module):
    """Defaults, keyword-only arguments, `*args`, `**kwargs` and static values."""

    # custom-vjp: bwd=identity
    @nn.compact
    def __call__(self, x, scale=2.0, *more, train: bool = False, mode: str = "add", **named):
        if train and mode == "add":
            x = x + scale
        for index, item in enumerate(more):
            x = x + (index + 1) * item
        for key in sorted(named):
            x = x * named[key]
        return nn.Dense(3)(x)


class Structured(nn.Module):
    """Outputs and arguments that are trees, with leaves that are not arrays."""

    # custom-vjp: bwd=identity
    @nn.compact
    def __call__(self, batch, steps: int = 2):
        x, labels = batch["image"], batch["label"]
        for _ in range(steps):
            x = nn.Dense(3)(x)
        return {"logits": x, "labels": labels, "name": "structured", "none": None, "steps": steps}


class Decorated(nn.Module):
    """Flax's own transforms stay with the primal."""

    # custom-vjp: bwd=identity
    @nn.remat
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(jnp.sin(nn.Dense(3)(x)))
