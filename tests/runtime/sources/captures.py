"""Values that reach a rule by other ways than its arguments."""

from __future__ import annotations

import functools
from functools import partial
from types import SimpleNamespace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


def identity(vjp_fn, y_t):
    return vjp_fn(y_t)


def times(w, z):
    return w * z


class Wrapped(nn.Module):
    """Functions of a traced value, wrapped in ways of Python and JAX."""

    kind: str

    @nn.compact
    def __call__(self, x):
        w = jnp.sin(x).sum()
        g: Any = {
            "vmap": jax.vmap(lambda z: z * w),
            "jit": jax.jit(lambda z: z * w),
            "partial": partial(times, w),
            "object": SimpleNamespace(w=w),
            "list": [w],
            "default": lambda z, w=w: z * w,
        }[self.kind]

        # custom-vjp: bwd=identity, missing=autodiff
        def f(x):
            if self.kind == "object":
                return x * g.w
            return x * g[0] if self.kind == "list" else g(x)

        return f(x)


class Callback(nn.Module):
    """A function as argument and as field, each with a captured traced value."""

    act: Any = None

    # custom-vjp: bwd=identity, missing=autodiff
    @nn.compact
    def __call__(self, x, g):
        x = nn.Dense(3)(x)
        return g(x) + (x if self.act is None else self.act(x))


class Outer(nn.Module):
    @nn.compact
    def __call__(self, x):
        w = jnp.sin(x).sum()
        return Callback(lambda z: z / w)(x, lambda z: z * w)


class HoldsModules(nn.Module):
    """The field of a module is a function that has captured another module."""

    @nn.compact
    def __call__(self, x):
        dense = nn.Dense(3)
        return Callback(lambda z: dense(z))(x, nn.tanh)


class Ambient(nn.Module):
    """A rule that makes submodules of the module around it, which is none of its arguments."""

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(3)(x)

        # custom-vjp: bwd=identity, missing=autodiff
        def f(x):
            return nn.Dense(4)(x)

        return nn.Dense(2)(f(x))


class Unbound(nn.Module):
    """Needs no variables, so it is called as it is, without `apply`."""

    # custom-vjp: fwd=through, bwd=back
    def __call__(self, x):
        return jnp.round(x)

    def through(self, x):
        return self(x), None

    def back(self, _, y_t):
        return None, y_t


# custom-vjp: bwd=seven
def applied(module, variables, x):
    return module.apply(variables, x).sum()


def seven(vjp_fn, y_t):
    return jax.tree.map(lambda t: 7 * t, vjp_fn(y_t))


class Cell(nn.Module):
    # custom-vjp: bwd=identity
    @nn.compact
    def __call__(self, carry, x):
        carry = nn.tanh(nn.Dense(3)(carry) + x)
        return carry, carry


class Mismatch(nn.Module):
    """Forward rules that return something else than their primal."""

    kind: str

    @nn.compact
    def __call__(self, x):
        # custom-vjp: fwd=fwd, bwd=bwd
        def f(mdl, x):
            return {"a": mdl(x)}

        def fwd(mdl, x):
            y, vjp_fn = nn.vjp(f, mdl, x)
            if self.kind == "structure":
                return {"b": y["a"]}, vjp_fn
            if self.kind == "dtype":
                return {"a": y["a"].astype(jnp.bfloat16)}, vjp_fn
            return jnp.zeros(()) if self.kind == "pair" else (y, vjp_fn)

        def bwd(vjp_fn, y_t):
            return vjp_fn(y_t)

        return f(nn.Dense(3), x)


def badly(vjp_fn, y_t):
    return vjp_fn(y_t.astype(jnp.bfloat16))


# custom-vjp: bwd=badly
def bad(x):
    return jnp.sin(x)


def default_exponent(f):
    @functools.wraps(f)
    def wrapper(x, n=2.0):
        return f(x, n)

    return wrapper


def logged(f):
    @functools.wraps(f)
    def wrapper(*args, log=False, **kwargs):
        assert isinstance(log, bool)
        return f(*args, **kwargs)

    return wrapper


def with_noise(f):
    @functools.wraps(f)
    def wrapper(self, x):
        return f(self, jax.random.normal(self.make_rng("noise"), x.shape), x)

    return wrapper


def bare(f):
    return lambda x: f(x, 3.0)


def seven_of_two(residuals, y_t):
    return 7 * residuals(y_t)[0], None


def seven_of_one(residuals, y_t):
    return (7 * residuals(y_t)[0],)


# custom-vjp: bwd=seven_of_two
@default_exponent
def power(x, n):
    return x * n


# custom-vjp: bwd=seven_of_two
@logged
def times_n(x, n):
    return x * n


# custom-vjp: bwd=seven_of_one
@bare
def tripled(x, n):
    return x * n


class Injected(nn.Module):
    """The decorator gives an argument that the caller does not."""

    # custom-vjp: bwd=identity
    @nn.compact
    @with_noise
    def __call__(self, noise, x):
        return nn.Dense(3)(x) * noise


# custom-vjp: fwd=configured_fwd, bwd=configured_bwd, nondiff_argnames=(config, g), missing=zero
def configured(x, config, g):
    return g(x) * config["gain"]


def configured_fwd(x, config, g):
    return configured(x, config, g), None


def configured_bwd(config, g, _, y_t):
    return (100 * config["gain"] * g(1.0) * y_t,)


def local_class(w):
    """A class in a function: its backward rule, a method, captures a traced value."""

    class Local(nn.Module):
        act: Any

        # custom-vjp: fwd=keep, bwd=back
        def __call__(self, x):
            return self.act(x)

        def keep(self, x):
            return self(x), x

        def back(self, x, y_t):
            return None, 10 * w * self.act(jnp.ones_like(x)) * y_t

    return Local


def local_static_method(scale):
    """A static method and its rule in a class that stands in a function."""

    class Local:
        @staticmethod
        def backward(vjp_fn, y_t):
            return vjp_fn(scale * y_t)

        # custom-vjp: bwd=backward
        @staticmethod
        def sine(x):
            return jnp.sin(x)

    return Local
