"""The transforms of JAX and Flax around a rule."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

from tests.comparison.outcomes import NotAvailable
from tests.comparison.programs import (
    KEY,
    PARAMS,
    X,
    cloned,
    dense,
    dense_pullback,
    filled,
    filled_below,
    gradients,
    linear,
    square_sum,
    twice,
    with_twice,
)
from tests.comparison.situation import Situation

STEPS = 3


class Layer(nn.Module):
    """A dense layer and dropout; called as the body of a scan."""

    rate: float = 0.0

    @nn.compact
    def __call__(self, x):
        x = nn.tanh(nn.Dense(3)(x))
        return nn.Dropout(self.rate, deterministic=self.rate == 0)(x)


class NnxLayer(nnx.Module):
    """The same layer in NNX."""

    def __init__(self, rate: float = 0.0):
        self.dense = linear()
        self.dropout = nnx.Dropout(rate, deterministic=rate == 0, rngs=nnx.Rngs(KEY))

    def __call__(self, x: Any) -> Any:
        return self.dropout(jnp.tanh(self.dense(x)))


def layer(params: Any, x: Any, key: Any, rate: float) -> Any:
    """The same layer over explicit parameters and an explicit key."""
    y = jnp.tanh(dense(params, x))
    return jnp.where(jax.random.bernoulli(key, 1 - rate, y.shape), y / (1 - rate), 0)


def lifted(kind: str, step: type[nn.Module]) -> Any:
    """Put one of Flax's transforms around a module whose call takes a carry and nothing."""
    rngs = {"params": False, "dropout": True}
    if kind == "jit":
        return nn.jit(step)
    if kind == "remat":
        return nn.remat(step)
    if kind == "scan":
        return nn.scan(step, variable_broadcast="params", split_rngs=rngs, length=STEPS)
    axes = {"params": None}
    return nn.vmap(step, in_axes=(0, None), variable_axes=axes, split_rngs=rngs)


def nnx_lifted(kind: str, function: Any, **mode: Any) -> Any:
    """Put one of NNX's transforms around a function of a module and an array."""
    if kind == "jit":
        return nnx.jit(function, **mode)
    if kind == "remat":
        return nnx.remat(function, **mode)
    if kind == "scan":

        def step(carry: Any) -> Any:
            module, x = carry
            return module, function(module, x)

        scanned = nnx.scan(step, length=STEPS, in_axes=nnx.Carry, out_axes=nnx.Carry, **mode)
        return lambda module, x: scanned((module, x))[1]
    axes = nnx.StateAxes({nnx.RngState: 0, ...: None})
    mapped = nnx.vmap(function, in_axes=(axes, 0))
    return nnx.split_rngs(splits=X.shape[0])(mapped)


def jax_lifted(kind: str, function: Any) -> Any:
    """Put one of JAX's transforms around a function of parameters, an array and a key."""
    if kind == "jit":
        return jax.jit(function)
    if kind == "remat":
        return jax.checkpoint(function)
    if kind == "scan":

        def scanned(params: Any, x: Any, key: Any) -> Any:
            keys = jax.random.split(key, STEPS)
            return jax.lax.scan(lambda x, key: (function(params, x, key), None), x, keys)[0]

        return scanned
    mapped = jax.vmap(function, (None, 0, 0))
    return lambda params, x, key: mapped(params, x, jax.random.split(key, x.shape[0]))


class Remat(Situation):
    """under `nn.remat` (`nnx.remat`, `jax.checkpoint`)"""

    kind = "remat"
    rate = 0.0

    def plain(self, params: Any, x: Any) -> Any:
        """The function that the transform leaves the same."""
        return jnp.tanh(dense(params, x))

    def expected(self):
        return with_twice(self.plain)

    def of_linen(self, step: type[nn.Module]) -> Any:
        """Differentiate a step with a rule in it, under the transform."""
        module = lifted(self.kind, step)()

        def run(params, x):
            variables = {"params": {"Layer_0": {"Dense_0": params}}}
            return module.apply(variables, x, None, rngs={"dropout": self.key()})[0]

        return self.result(run)

    def key(self) -> Any:
        """The key of the run; a traced one where the run is."""
        return jax.random.fold_in(KEY, 1)

    def result(self, run: Any) -> Any:
        """Differentiate a function of parameters and input."""
        return gradients(run, wrap=jax.jit if self.vjp3 else lambda loss: loss)

    def linen(self):
        rate = self.rate

        class Step(nn.Module):
            @nn.compact
            def __call__(self, x, _):
                def f(mdl, x):
                    return mdl(x)

                def fwd(mdl, x):
                    return nn.vjp(f, mdl, x)

                def bwd(vjp_fn, y_t):
                    mdl_t, x_t = vjp_fn(y_t)
                    return twice(mdl_t), x_t

                return nn.custom_vjp(f, fwd, bwd)(Layer(rate), x), None

        return self.of_linen(Step)

    def nnx(self):
        @nnx.custom_vjp(nondiff_argnums=(nnx.DiffState(0, nnx.Param),))
        def f(m, x):
            return m(x)

        def fwd(m, x):
            return m(x), (m.dense.kernel[...], m.dense.bias[...], x)

        def bwd(residuals, g):
            (m_g, _), y_t = g
            kernel, bias, x = residuals
            params = {"kernel": kernel, "bias": bias}
            params_t, x_t = jax.vjp(self.plain_layer, params, x)[1](y_t)
            later = m_g["dense"]
            added = {name: later[name][...] + t for name, t in twice(params_t).items()}
            return filled_below(m_g, "dense", **added), x_t

        f.defvjp(fwd, bwd)
        return self.of_nnx(nnx_lifted(self.kind, f))

    def nnx_simple(self):
        @nnx.custom_vjp(graph_updates=False)
        def f(m, x):
            return m(x)

        def fwd(m, x):
            before = nnx.clone(m)
            return m(x), (before, x)

        def bwd(residuals, y_t):
            m, x = residuals
            params = {"kernel": m.dense.kernel[...], "bias": m.dense.bias[...]}
            params_t, x_t = jax.vjp(self.plain_layer, params, x)[1](y_t)
            return cloned(m, twice(params_t), "dense"), x_t

        f.defvjp(fwd, bwd)
        return self.of_nnx(nnx_lifted(self.kind, f, graph_updates=False))

    @staticmethod
    def plain_layer(params: Any, x: Any) -> Any:
        """One layer without dropout."""
        return jnp.tanh(dense(params, x))

    def of_nnx(self, function: Any) -> Any:
        """Differentiate a function of an NNX layer and an input."""
        params_of = nnx.DiffState(0, nnx.Param)
        loss = lambda m, x: square_sum(function(m, x))  # noqa: E731
        loss = nnx.jit(loss) if self.vjp3 else loss
        module = NnxLayer(self.rate)
        value, (params_t, x_t) = nnx.value_and_grad(loss, argnums=(params_of, 1))(module, X)
        return {"loss": value, "params": nnx.to_pure_dict(params_t)["dense"], "x": x_t}

    def jax(self):
        rate = self.rate

        @jax.custom_vjp
        def f(params, x, key):
            return layer(params, x, key, rate)

        def fwd(params, x, key):
            return jax.vjp(lambda p, x: layer(p, x, key, rate), params, x)

        def bwd(pull, y_t):
            params_t, x_t = pull(y_t)
            return twice(params_t), x_t, None

        f.defvjp(fwd, bwd)
        run = jax_lifted(self.kind, f)
        return self.result(lambda p, x: run(p, x, self.key()))

    def vjpgen(self):
        rate = self.rate

        class Step(nn.Module):
            @nn.compact
            def __call__(self, x, _):
                # custom-vjp: bwd=bwd
                def f(mdl, x):
                    return mdl(x)

                def bwd(vjp_fn, y_t):
                    mdl_t, x_t = vjp_fn(y_t)
                    return twice(mdl_t), x_t

                return f(Layer(rate), x), None

        return self.of_linen(Step)


class Scan(Remat):
    """under `nn.scan` (`nnx.scan`, `lax.scan`), parameters shared by the steps"""

    kind = "scan"

    def plain(self, params, x):
        for _ in range(STEPS):
            x = jnp.tanh(dense(params, x))
        return x


class Vmap(Remat):
    """under `nn.vmap` (`nnx.vmap`, `jax.vmap`), parameters shared by the examples"""

    kind = "vmap"


class InitScan(Remat):
    """`init` under scan, parameters shared by the steps"""

    kind = "scan"

    def expected(self):
        return jax.tree.map(jnp.zeros_like, {"params": {"Layer_0": {"Dense_0": PARAMS}}})

    def of_linen(self, step):
        found = lifted(self.kind, step)().init(KEY, X, None)
        return jax.tree.map(jnp.zeros_like, found)

    def nnx(self):
        raise NotAvailable("modules are made before they are called")

    def jax(self):
        raise NotAvailable("there are no modules")


class DropoutRemat(Remat):
    """dropout under remat: the mask that the evaluation draws"""

    rate = 0.5

    def expected(self):
        """How far the loss that comes with the gradient is from the evaluated one: 0."""
        return jnp.float32(0)

    def result(self, run):
        loss = lambda p, x: square_sum(run(p, x))  # noqa: E731
        differentiated, _ = jax.value_and_grad(loss)(PARAMS, X)
        return abs(loss(PARAMS, X) - differentiated).round(3)

    def of_nnx(self, function):
        loss = lambda m, x: square_sum(function(m, x))  # noqa: E731
        evaluated = loss(NnxLayer(self.rate), X)
        graded = nnx.value_and_grad(loss, argnums=nnx.DiffState(0, nnx.Param))
        return abs(evaluated - graded(NnxLayer(self.rate), X)[0]).round(3)


class DropoutScan(DropoutRemat):
    """dropout under scan: the masks that the evaluation draws"""

    kind = "scan"


class DropoutVmap(DropoutRemat):
    """dropout under vmap: the masks that the evaluation draws"""

    kind = "vmap"


class PerExample(Situation):
    """per-example gradients: `vmap` of `grad`"""

    def expected(self):
        loss = lambda p, x: square_sum(dense(p, x))  # noqa: E731
        return twice(jax.vmap(jax.grad(loss), (None, 0))(PARAMS, X[:, None]))

    def linen(self):
        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                def f(mdl, x):
                    return mdl(x)

                def fwd(mdl, x):
                    return nn.vjp(f, mdl, x)

                def bwd(vjp_fn, y_t):
                    mdl_t, x_t = vjp_fn(y_t)
                    return twice(mdl_t), x_t

                return nn.custom_vjp(f, fwd, bwd)(nn.Dense(3), x)

        return self.per_example(Net())

    @staticmethod
    def per_example(module: nn.Module) -> Any:
        """Differentiate for each example alone."""
        loss = lambda p, x: square_sum(module.apply({"params": {"Dense_0": p}}, x))  # noqa: E731
        return jax.vmap(jax.grad(loss), (None, 0))(PARAMS, X[:, None])

    def nnx(self):
        @nnx.custom_vjp
        def f(m, x):
            return m(x)

        def fwd(m, x):
            return f(m, x), (m, x)

        def bwd(residuals, g):
            (m_g, _), y_t = g
            m, x = residuals
            params_t, x_t = dense_pullback(m.kernel[...], x, y_t)
            return filled(m_g, **twice(params_t)), x_t

        f.defvjp(fwd, bwd)
        gradient = nnx.grad(lambda m, x: square_sum(f(m, x)))
        return nnx.to_pure_dict(nnx.vmap(gradient, in_axes=(None, 0))(linear(), X[:, None]))

    def jax(self):
        f = ruled_dense()
        loss = lambda p, x: square_sum(f(p, x))  # noqa: E731
        return jax.vmap(jax.grad(loss), (None, 0))(PARAMS, X[:, None])

    def vjpgen(self):
        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                # custom-vjp: bwd=bwd
                def f(mdl, x):
                    return mdl(x)

                def bwd(vjp_fn, y_t):
                    mdl_t, x_t = vjp_fn(y_t)
                    return twice(mdl_t), x_t

                return f(nn.Dense(3), x)

        return self.per_example(Net())


def ruled_dense() -> Any:
    """Make a dense layer whose parameters' tangents are doubled, with `jax.custom_vjp`."""

    @jax.custom_vjp
    def f(params, x):
        return dense(params, x)

    def fwd(params, x):
        return f(params, x), (params, x)

    def bwd(residuals, y_t):
        params, x = residuals
        params_t, x_t = dense_pullback(params["kernel"], x, y_t)
        return twice(params_t), x_t

    f.defvjp(fwd, bwd)
    return f


class SecondOrder(PerExample):
    """`grad` of `grad`"""

    def expected(self):
        def first(x):
            params_t, _ = dense_pullback(PARAMS["kernel"], x, 2 * dense(PARAMS, x))
            return jnp.sin(2 * params_t["kernel"]).sum()

        return jax.grad(first)(X)

    @staticmethod
    def per_example(module):
        loss = lambda p, x: square_sum(module.apply({"params": {"Dense_0": p}}, x))  # noqa: E731
        return jax.grad(lambda x: jnp.sin(jax.grad(loss)(PARAMS, x)["kernel"]).sum())(X)

    def nnx(self):
        @nnx.custom_vjp
        def f(m, x):
            return m(x)

        def fwd(m, x):
            return f(m, x), (m, x)

        def bwd(residuals, g):
            (m_g, _), y_t = g
            m, x = residuals
            params_t, x_t = dense_pullback(m.kernel[...], x, y_t)
            return filled(m_g, **twice(params_t)), x_t

        f.defvjp(fwd, bwd)
        inner = nnx.grad(lambda m, x: square_sum(f(m, x)))
        outer = nnx.grad(lambda m, x: jnp.sin(inner(m, x)["kernel"][...]).sum(), argnums=1)
        return outer(linear(), X)

    def jax(self):
        f = ruled_dense()
        loss = lambda p, x: square_sum(f(p, x))  # noqa: E731
        return jax.grad(lambda x: jnp.sin(jax.grad(loss)(PARAMS, x)["kernel"]).sum())(X)


class OptimizeRemat(Situation):
    """`optimize_remat`"""

    def expected(self):
        return 7 * jnp.cos(X)

    def linen(self):
        raise NotAvailable("it has no such option")

    def nnx(self):
        raise NotAvailable("it has no such option")

    def jax(self):
        @jax.custom_vjp
        def f(x):
            return jnp.sin(x)

        def fwd(x):
            return jnp.sin(x), jnp.cos(x)

        def bwd(cos, y_t):
            return (7 * cos * y_t,)

        f.defvjp(fwd, bwd, optimize_remat=True)
        return jax.grad(jax.checkpoint(lambda x: f(x).sum()))(X)

    def vjpgen(self):
        # custom-vjp: fwd=fwd, bwd=bwd, optimize_remat=True
        def f(x):
            return jnp.sin(x)

        def fwd(x):
            return jnp.sin(x), jnp.cos(x)

        def bwd(cos, y_t):
            return (7 * cos * y_t,)

        return jax.grad(jax.checkpoint(lambda x: f(x).sum()))(X)


class ForwardMode(PerExample):
    """forward mode: an error that says so"""

    names = "forward.mode"

    def expected(self):
        return None

    @staticmethod
    def per_example(module):
        run = lambda x: module.apply({"params": {"Dense_0": PARAMS}}, x)  # noqa: E731
        return jax.jvp(run, (X,), (X,))

    def nnx(self):
        @nnx.custom_vjp
        def f(m, x):
            return m(x)

        f.defvjp(lambda m, x: (f(m, x), None), lambda _, g: (g[0][0], g[1]))
        graph, state = nnx.split(linear())
        return jax.jvp(lambda s, x: f(nnx.merge(graph, s), x), (state, X), (state, X))

    def jax(self):
        f = ruled_dense()
        return jax.jvp(lambda x: f(PARAMS, x), (X,), (X,))


class ScanState(Situation):
    """a variable that each step of a scan updates"""

    def expected(self):
        plain = with_twice(self.loop)
        return {**plain, "count": jnp.int32(STEPS)}

    @staticmethod
    def loop(params: Any, x: Any) -> Any:
        """The scan as a loop."""
        for _ in range(STEPS):
            x = jnp.tanh(dense(params, x))
        return x

    @staticmethod
    def of_counting(step: type[nn.Module]) -> Any:
        """Scan a module that counts its calls."""
        split = {"params": False}
        scanned = nn.scan(
            step, variable_broadcast="params", variable_carry="count", split_rngs=split, length=3
        )()

        def loss(params, x):
            variables = {"params": {"Counting_0": {"Dense_0": params}}}
            state = {"count": {"Counting_0": {"calls": jnp.int32(0)}}}
            (y, _), new = scanned.apply({**variables, **state}, x, None, mutable="count")
            return square_sum(y), new["count"]["Counting_0"]["calls"]

        (value, count), (params_t, x_t) = jax.value_and_grad(loss, (0, 1), has_aux=True)(PARAMS, X)
        return {"loss": value, "params": params_t, "x": x_t, "count": count}

    def linen(self):
        class Step(nn.Module):
            @nn.compact
            def __call__(self, x, _):
                def f(mdl, x):
                    return mdl(x)

                def fwd(mdl, x):
                    return nn.vjp(f, mdl, x)

                def bwd(vjp_fn, y_t):
                    mdl_t, x_t = vjp_fn(y_t)
                    return twice(mdl_t), x_t

                return nn.custom_vjp(f, fwd, bwd)(Counting(), x), None

        return self.of_counting(Step)

    def nnx(self):
        params_of = nnx.DiffState(0, nnx.Param)

        @nnx.custom_vjp(nondiff_argnums=(params_of,))
        def f(m, x):
            return m(x)

        def fwd(m, x):
            return m(x), (m.dense.kernel[...], m.dense.bias[...], x)

        def bwd(residuals, g):
            (m_g, _), y_t = g
            kernel, bias, x = residuals
            params = {"kernel": kernel, "bias": bias}
            params_t, x_t = jax.vjp(Remat.plain_layer, params, x)[1](y_t)
            later = m_g["dense"]
            added = {name: later[name][...] + t for name, t in twice(params_t).items()}
            return filled_below(m_g, "dense", **added), x_t

        f.defvjp(fwd, bwd)
        return self.of_counting_nnx(f)

    def nnx_simple(self):
        @nnx.custom_vjp(graph_updates=False)
        def f(m, x):
            return m(x)

        def fwd(m, x):
            before = nnx.clone(m)
            return m(x), (before, x)

        def bwd(residuals, y_t):
            m, x = residuals
            params = {"kernel": m.dense.kernel[...], "bias": m.dense.bias[...]}
            params_t, x_t = jax.vjp(Remat.plain_layer, params, x)[1](y_t)
            return cloned(m, twice(params_t), "dense"), x_t

        f.defvjp(fwd, bwd)
        return self.of_counting_nnx(f, graph_updates=False)

    @staticmethod
    def of_counting_nnx(function: Any, **mode: Any) -> Any:
        """Scan an NNX module that counts its calls."""
        run = nnx_lifted("scan", function, **mode)
        module, params_of = CountingNnx(), nnx.DiffState(0, nnx.Param)
        loss = lambda m, x: square_sum(run(m, x))  # noqa: E731
        value, (params_t, x_t) = nnx.value_and_grad(loss, argnums=(params_of, 1))(module, X)
        params_t = nnx.to_pure_dict(params_t)["dense"]
        return {"loss": value, "params": params_t, "x": x_t, "count": module.calls[...]}

    def jax(self):
        @jax.custom_vjp
        def f(params, x, count):
            return jnp.tanh(dense(params, x)), count + 1

        def fwd(params, x, count):
            y, pull = jax.vjp(lambda p, x: jnp.tanh(dense(p, x)), params, x)
            return (y, count + 1), pull

        def bwd(pull, tangents):
            params_t, x_t = pull(tangents[0])
            return twice(params_t), x_t, None

        f.defvjp(fwd, bwd)

        def loss(params, x):
            step = lambda carry, _: (f(params, *carry), None)  # noqa: E731
            (y, count), _ = jax.lax.scan(step, (x, jnp.int32(0)), length=STEPS)
            return square_sum(y), count

        (value, count), (params_t, x_t) = jax.value_and_grad(loss, (0, 1), has_aux=True)(PARAMS, X)
        return {"loss": value, "params": params_t, "x": x_t, "count": count}

    def vjpgen(self):
        class Step(nn.Module):
            @nn.compact
            def __call__(self, x, _):
                # custom-vjp: bwd=bwd
                def f(mdl, x):
                    return mdl(x)

                def bwd(vjp_fn, y_t):
                    mdl_t, x_t = vjp_fn(y_t)
                    return twice(mdl_t), x_t

                return f(Counting(), x), None

        return self.of_counting(Step)


class Counting(nn.Module):
    """A layer that counts its calls."""

    @nn.compact
    def __call__(self, x):
        calls = self.variable("count", "calls", lambda: jnp.int32(0))
        calls.value += 1
        return jnp.tanh(nn.Dense(3)(x))


class CountingNnx(nnx.Module):
    """The same layer in NNX."""

    def __init__(self):
        self.dense = linear()
        self.calls = nnx.BatchStat(jnp.int32(0))

    def __call__(self, x: Any) -> Any:
        self.calls[...] += 1
        return jnp.tanh(self.dense(x))


class Jit3(Remat):
    """under `nn.jit` (`nnx.jit`, `jax.jit`) in a jitted step, with `JAX_CUSTOM_VJP3=1`"""

    kind = "jit"
    vjp3 = True


class Scan3(Scan):
    """under scan in a jitted step, with `JAX_CUSTOM_VJP3=1`"""

    vjp3 = True


class Remat3(Remat):
    """under remat in a jitted step, with `JAX_CUSTOM_VJP3=1`"""

    vjp3 = True


class DropoutJit3(DropoutRemat):
    """dropout under `nn.jit` (`nnx.jit`, `jax.jit`), with `JAX_CUSTOM_VJP3=1`"""

    kind = "jit"
    vjp3 = True
