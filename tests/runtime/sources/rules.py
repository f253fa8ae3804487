"""Annotated functions whose rules say something: what each test compares with is in the test."""

from __future__ import annotations

import enum
from functools import partial  # noqa: F401  an annotation uses it
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

import vjpgen


def identity(vjp_fn, y_t):
    return vjp_fn(y_t)


def sign_bwd(vjp_fn, y_t):
    params_t, *inputs_t = vjp_fn(y_t)
    return (jax.tree.map(jnp.sign, params_t), *inputs_t)


def scaled(factor, vjp_fn, y_t):
    return jax.tree.map(lambda t: factor * t, vjp_fn(y_t))


def kernel_only(vjp_fn, y_t):
    params_t, x_t = vjp_fn(y_t)
    return {"params": {"kernel": 2 * params_t["params"]["kernel"]}}, x_t


class Sign(nn.Module):
    features: int = 3

    # custom-vjp: bwd=sign_bwd
    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.features)(x)


class Expression(nn.Module):
    # custom-vjp: bwd=partial(scaled, 3.0)
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x)


class Methods(nn.Module):
    """Forward and backward in the class body; the backward rule gets a snapshot of the module."""

    features: int = 3

    # custom-vjp: fwd=remember, bwd=recompute
    @nn.compact
    def __call__(self, x, train: bool = True):
        assert isinstance(train, bool)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (x.shape[-1], self.features))
        return jnp.tanh(x @ kernel)

    def remember(self, x, train):
        assert train is True
        return self(x, train), (x, train, self.features)

    def recompute(self, residuals, y_t):
        x, train, features = residuals
        assert train is True
        assert features == self.features
        y = self(x, train)  # the module as it was: its primal
        kernel = self.get_variable("params", "kernel")
        inner = y_t * (1 - y**2)
        return {"params": {"kernel": 5 * x.T @ inner}}, inner @ kernel.T, None


class Static(nn.Module):
    # custom-vjp: fwd=fwd, bwd=bwd
    def __call__(self, x):
        return jnp.sin(x)

    @staticmethod
    def fwd(mdl, x):
        return jnp.sin(x), x

    @staticmethod
    def bwd(x, y_t):
        return None, 7 * jnp.cos(x) * y_t


class KernelTwice(nn.Module):
    """Overrides one leaf; `missing` decides the rest."""

    def setup(self):
        self.dense = nn.Dense(3)

    def __call__(self, x):
        return self.strict(x) + self.error(x) + self.zero(x) + self.autodiff(x)

    def strict(self, x):
        # custom-vjp: bwd=kernel_only
        def f(mdl, x):
            return mdl(x)

        return f(self.dense, x)

    def error(self, x):
        # custom-vjp: bwd=kernel_only, missing=error
        def f(mdl, x):
            return mdl(x)

        return f(self.dense, x)

    def zero(self, x):
        # custom-vjp: bwd=kernel_only, missing=zero
        def f(mdl, x):
            return mdl(x)

        return f(self.dense, x)

    def autodiff(self, x):
        # custom-vjp: bwd=kernel_only, missing=autodiff
        def f(mdl, x):
            return mdl(x)

        return f(self.dense, x)


class Captured(nn.Module):
    """Values of the enclosing method in the primal, the forward and the backward rule."""

    missing: str = "strict"

    @nn.compact
    def __call__(self, x):
        gain = self.param("gain", nn.initializers.constant(2.0), ())
        table = {"offset": jnp.sin(x).sum()}
        dense = nn.Dense(3)

        def helper(x):
            return gain * x + table["offset"]

        if self.missing == "strict":
            # custom-vjp: fwd=fwd, bwd=bwd
            def f(mdl, x):
                return helper(mdl(x))

        elif self.missing == "autodiff":
            # custom-vjp: fwd=fwd, bwd=bwd, missing=autodiff
            def f(mdl, x):
                return helper(mdl(x))

        elif self.missing == "zero":
            # custom-vjp: fwd=fwd, bwd=bwd, missing=zero
            def f(mdl, x):
                return helper(mdl(x))

        else:
            # custom-vjp: fwd=fwd, bwd=bwd, missing=error
            def f(mdl, x):
                return helper(mdl(x))

        def fwd(mdl, x):
            return nn.vjp(f, mdl, x)

        def bwd(vjp_fn, y_t):
            return vjp_fn(y_t * gain / gain)

        return f(dense, x)


class CapturedModule(nn.Module):
    """A nested function that reads plain fields of the enclosing module, and one that uses it."""

    factor: float = 2.0

    @nn.compact
    def __call__(self, x):
        # custom-vjp: bwd=identity
        def reads(mdl, x):
            return self.factor * mdl(x)

        dense = nn.Dense(3)

        # custom-vjp: bwd=bwd, missing=autodiff
        def uses(x):
            return dense(x)

        def bwd(vjp_fn, y_t):
            (x_t,) = vjp_fn(y_t)
            return (10 * x_t,)

        return reads(nn.Dense(3), x) + uses(x)


class Updates(nn.Module):
    """The loss depends on a variable that the pass has updated."""

    def setup(self):
        self.dense = nn.Dense(3)
        self.memory = self.variable("memory", "last", jnp.zeros, (4, 3))

    def __call__(self, x):
        self.strict(x)
        self.autodiff(x)
        return x

    # custom-vjp: bwd=identity
    def strict(self, x):
        self.memory.value = jnp.tanh(self.dense(x))
        return x.sum()

    # custom-vjp: bwd=identity, missing=autodiff
    def autodiff(self, x):
        self.memory.value = jnp.tanh(self.dense(x))
        return x.sum()

    # custom-vjp: bwd=identity, missing=error
    def error(self, x):
        self.memory.value = jnp.tanh(self.dense(x))
        return x.sum()


class Adapters(nn.Module):
    """`grad_vars` of several collections, and of all."""

    # custom-vjp: bwd=identity, grad_vars=(params, adapters)
    @nn.compact
    def __call__(self, x):
        low = self.variable("adapters", "low", lambda: 0.1 * jnp.ones((x.shape[-1], 3)))
        return nn.Dense(3)(x) + x @ low.value


class Every(nn.Module):
    # custom-vjp: bwd=identity, grad_vars=True
    @nn.compact
    def __call__(self, x):
        low = self.variable("adapters", "low", lambda: 0.1 * jnp.ones((x.shape[-1], 3)))
        return nn.Dense(3)(x) + x @ low.value


class Two(nn.Module):
    """A tuple and a dict of modules as arguments; a module as a keyword."""

    @nn.compact
    def __call__(self, x):
        # custom-vjp: fwd=fwd, bwd=bwd
        def f(pair, x, *, extra: Any):
            return pair[0](x) * pair[1]["b"](x) + extra(x)

        def fwd(pair, x, *, extra):
            y = f(pair, x, extra=extra)
            return y, (vjpgen.snapshot((pair, extra)), x)

        def bwd(residuals, y_t):
            snapshot, x = residuals
            (a, b), c = snapshot.module()
            b = b["b"]

            def dense(module, t):
                return {"params": {"kernel": x.T @ t, "bias": t.sum(0)}}

            pair_t = (dense(a, y_t * b(x)), {"b": dense(b, y_t * a(x))})
            kernels = [m.get_variable("params", "kernel") for m in (a, b, c)]
            x_t = sum(t @ k.T for t, k in zip((y_t * b(x), y_t * a(x), y_t), kernels, strict=True))
            return pair_t, x_t, dense(c, y_t)

        return f((nn.Dense(3), {"b": nn.Dense(3)}), x, extra=nn.Dense(3))


class Mode(enum.Enum):
    SIN = 1
    COS = 2


# custom-vjp: fwd=trig_fwd, bwd=trig_bwd
def trig(x, mode, flag=False, name="n", *, dtype=jnp.float32, op=jnp.sin, times: int = 1):
    assert [type(value) for value in (mode, flag, name)] == [Mode, bool, str]
    x = x.astype(dtype)
    for _ in range(times):
        x = op(x) if mode is Mode.SIN else jnp.cos(x)
    return -x if flag else x


def trig_fwd(x, mode, flag, name, *, dtype, op, times):
    return trig(x, mode, flag, name, dtype=dtype, op=op, times=times), (x, mode, flag)


def trig_bwd(residuals, y_t):
    x, mode, flag = residuals
    assert isinstance(mode, Mode)
    x_t = 100 * y_t * (jnp.cos(x) if mode is Mode.SIN else -jnp.sin(x))
    return (-x_t if flag else x_t), None, None, None, None, None, None


# custom-vjp: fwd=power_fwd, bwd=power_bwd, nondiff_argnums=(1,), nondiff_argnames=config
def power(x, exponent, config):
    return config["gain"] * x**exponent


def power_fwd(x, exponent, config):
    return power(x, exponent, config), x


def power_bwd(exponent, config, x, y_t):
    assert isinstance(exponent, int)
    return (1000 * config["gain"] * exponent * x ** (exponent - 1) * y_t,)


# custom-vjp: fwd=gather_fwd, bwd=gather_bwd
def gather(table, indices, key):
    return table[indices] + jax.random.normal(key, (1,))


def gather_fwd(table, indices, key):
    return gather(table, indices, key), (indices, table.shape)


def gather_bwd(residuals, y_t):
    indices, shape = residuals
    assert shape == (5, 2)
    return 9 * jnp.zeros(shape, y_t.dtype).at[indices].add(y_t), None, None


# custom-vjp: fwd=symbolic_fwd, bwd=symbolic_bwd, symbolic_zeros=True
def symbolic(x, y):
    return x * y, x + y


def symbolic_fwd(x, y):
    return (x.value * y.value, x.value + y.value), (y.value, x.perturbed, y.perturbed)


def symbolic_bwd(residuals, tangents):
    y, x_perturbed, y_perturbed = residuals
    product_t, sum_t = tangents
    assert (x_perturbed, y_perturbed) == (True, False)
    assert type(sum_t).__name__ == "SymbolicZero"
    return y * product_t, None


# custom-vjp: fwd=opaque_fwd, bwd=opaque_bwd, optimize_remat=True
def opaque(x):
    return jnp.sin(x)


def opaque_fwd(x):
    return jnp.sin(x), jnp.cos(x)


def opaque_bwd(cos, y_t):
    return (2 * cos * y_t,)


class Holder:
    @staticmethod
    # custom-vjp: fwd=double_fwd, bwd=double_bwd
    def double(x):
        return 2 * x

    @staticmethod
    def double_fwd(x):
        return 2 * x, None

    @staticmethod
    def double_bwd(_, y_t):
        return (50 * y_t,)


def factory(scale):
    # custom-vjp: fwd=fwd, bwd=bwd
    def f(x):
        return jnp.sum(scale * x)

    def fwd(x):
        return f(x), None

    def bwd(_, y_t):
        return (2 * scale * y_t * jnp.ones(3),)

    return f


# custom-vjp: fwd=loop_fwd, bwd=loop_bwd
def loop(x):
    return jnp.sin(x)


def loop_fwd(x):
    y, vjp_fn = jax.vjp(lambda x: jax.jit(loop)(x), x)
    return y, vjp_fn


def loop_bwd(vjp_fn, y_t):
    return (4 * vjp_fn(y_t)[0],)


class Wrong(nn.Module):
    """Backward rules that do not fit."""

    kind: str = ""

    @nn.compact
    def __call__(self, x):
        # custom-vjp: bwd=bwd
        def f(mdl, x):
            return mdl(x)

        def bwd(vjp_fn, y_t):
            mdl_t, x_t = vjp_fn(y_t)
            params = mdl_t["params"]
            if self.kind == "tuple":
                return mdl_t
            if self.kind == "length":
                return (*(mdl_t, x_t), None)
            if self.kind == "leaf":
                return {"params": {**params, "weight": params["kernel"]}}, x_t
            if self.kind == "shape":
                return {"params": {**params, "kernel": params["kernel"].T}}, x_t.sum()
            if self.kind == "dtype":
                return mdl_t, x_t.astype(jnp.bfloat16)
            if self.kind == "structure":
                return mdl_t, (x_t,)
            if self.kind == "array":
                return params["kernel"], x_t
            return nn.FrozenDict(mdl_t), x_t

        return f(nn.Dense(4), x)
