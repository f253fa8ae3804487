"""Captured modules: by the primal, by `fwd` and by `bwd`; whole, by a part, or by a field."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


def identity(vjp_fn, y_t):
    return vjp_fn(y_t)


class Capturing(nn.Module):
    """The primal uses a module of the method around it in one of many ways."""

    way: str
    features: int = 3
    act: Any = None

    def setup(self):
        self.dense = nn.Dense(self.features)
        self.layers = [nn.Dense(self.features), nn.Dense(self.features)]
        self.named = {"a": nn.Dense(self.features)}
        self.scale = self.param("scale", nn.initializers.ones, (3,))
        self.count = self.variable("stats", "count", jnp.zeros, ())

    def scaled(self, x):
        return self.scale * x

    def __call__(self, x):
        dense, layers, method = self.dense, self.layers, self.scaled
        held = SimpleNamespace(module=self.dense, other=[self])
        count = self.count
        scope = self.scope

        def call(x):
            return dense(x) * 2

        # custom-vjp: bwd=backward, missing=autodiff
        def f(x):
            if self.way == "self":
                return self.dense(x) + self.scaled(x)
            if self.way == "submodule":
                return dense(x)
            if self.way == "list":
                return layers[1](layers[0](x))
            if self.way == "dict":
                return self.named["a"](x)
            if self.way == "bound method":
                return method(x)
            if self.way == "object":
                return held.module(x) + held.other[0].scale
            if self.way == "helper":
                return call(x)
            if self.way == "variable":
                count.value += x.sum()
                return x * count.value
            if self.way == "counter":
                self.count.value += 1.0
                return x * self.count.value
            if self.way == "scope":
                return x * scope.get_variable("params", "scale")
            if self.way == "sow":
                self.sow("intermediates", "x", x)
                return self.dense(x)
            return x

        def backward(vjp_fn, y_t):
            return vjp_fn(y_t * self.features / 3)

        y = f(x)
        if self.is_initializing():  # every parameter is there, whatever the way
            self.dense(x), [layer(x) for layer in self.layers], self.named["a"](x)
        return y


WAYS = (
    *("self", "submodule", "list", "dict", "bound method", "object", "helper"),
    *("variable", "counter", "scope", "sow"),
)


class ByForward(nn.Module):
    """The forward rule calls a module of the method around it; the primal another one."""

    @nn.compact
    def __call__(self, x):
        inner, gate = nn.Dense(3, name="inner"), nn.Dense(3, name="gate")

        def forward(x):
            y, pullback = jax.vjp(f, x)
            return y, (pullback, gate(x))

        def backward(residuals, y_t):
            pullback, gated = residuals
            return pullback(y_t * jnp.sign(gated))

        # custom-vjp: fwd=forward, bwd=backward, missing=autodiff
        def f(x):
            return inner(x) + 0 * gate(x)

        return f(x)


class FieldsOnly(nn.Module):
    """Captured for plain fields: nothing of it is lifted."""

    features: int = 3
    limit: float = 0.5

    @nn.compact
    def __call__(self, x):
        kernel = self.param("kernel", nn.initializers.ones, (3, self.features))

        def backward(vjp_fn, y_t):
            return vjp_fn(y_t.clip(-self.limit, self.limit))

        # custom-vjp: bwd=backward
        def f(x, kernel):
            return (x @ kernel) * self.features

        return f(x, kernel)


class Activated(nn.Module):
    """A field that is a function with a captured value, used from within."""

    act: Any

    @nn.compact
    def __call__(self, x):
        # custom-vjp: bwd=identity, missing=autodiff
        def f(x):
            return self.act(x)

        return f(x)


class Outer(nn.Module):
    @nn.compact
    def __call__(self, x):
        w = jnp.sin(x).mean()
        return Activated(lambda z: w * z)(x)


# custom-vjp: bwd=identity, missing=autodiff
def apply(module, x):
    return module(x)


class LocalClass(nn.Module):
    """An argument of a class that is made in a method, whose own methods capture a value."""

    @nn.compact
    def __call__(self, x):
        w = jnp.sin(x).mean()

        class Local(nn.Module):
            bias = 2 * w

            @nn.compact
            def __call__(self, z):
                return nn.Dense(3)(z) * w + self.helper(z)

            def helper(self, z):
                return z * w + self.bias

        return apply(Local(name="local"), x)


class Hidden(nn.Module):
    """A backward rule that uses a module where no compiler sees it."""

    @nn.compact
    def __call__(self, x):
        held = SimpleNamespace(layer=nn.Dense(3))
        y = held.layer(x)

        def backward(vjp_fn, y_t):
            return vjp_fn(held.layer(y_t))

        # custom-vjp: bwd=backward
        def f(x):
            return 2 * x

        return f(y)


class Helped(nn.Module):
    """A backward rule that hands modules on, to what reads their fields alone."""

    custom_vjp: Any
    way: str
    limit: float = 2.0

    def scaled(self, tangent):
        return tangent * self.limit

    @nn.compact
    def __call__(self, x):
        layer = nn.Dense(3)

        def f(mdl, x):
            return mdl(x)

        def forward(mdl, x):
            return nn.vjp(f, mdl, x)

        def helper(module):
            return module.limit

        def backward(vjp_fn, y_t):
            if self.way == "helper":
                return vjp_fn(y_t * helper(self))
            if self.way == "method":
                return vjp_fn(self.scaled(y_t))
            if self.way == "getattr":
                return vjp_fn(y_t * getattr(layer, "fea" + "tures"))
            return vjp_fn(y_t * (3 if isinstance(layer, nn.Dense) else 1))

        return self.custom_vjp(f, forward, backward)(layer, x)


class Dropped(nn.Module):
    """A captured module whose gradient the rule drops."""

    @nn.compact
    def __call__(self, x):
        dense = nn.Dense(3)

        # custom-vjp: bwd=identity
        def f(x):
            return dense(x)

        return f(x)
