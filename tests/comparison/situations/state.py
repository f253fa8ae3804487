"""Variables that are updated, collections beside the parameters, random numbers."""

from __future__ import annotations

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
    of_nnx,
    square_sum,
    twice,
)
from tests.comparison.situation import Situation

STATS = {"mean": jnp.zeros(3), "var": jnp.ones(3)}
NORM = {"scale": jnp.array([1.0, 2.0, -1.0]), "bias": jnp.array([0.0, 0.5, 1.0])}
MOMENTUM, EPSILON = 0.9, 1e-5


def normalize(params, stats, x):
    """BatchNorm while training over explicit variables: the output and the new statistics."""
    mean, var = x.mean(0), (x**2).mean(0) - x.mean(0) ** 2
    y = (x - mean) * jax.lax.rsqrt(var + EPSILON) * params["scale"] + params["bias"]
    new = {"mean": mean, "var": var}
    return y, jax.tree.map(lambda old, n: MOMENTUM * old + (1 - MOMENTUM) * n, stats, new)


def of_norm(module, calls=1):
    """Differentiate a Linen module with a BatchNorm; the new statistics are part of the result."""

    def loss(params, x):
        variables = {"params": {"BatchNorm_0": params}, "batch_stats": {"BatchNorm_0": STATS}}
        y, new = module.apply(variables, x, mutable="batch_stats")
        return square_sum(y), new["batch_stats"]["BatchNorm_0"]

    (value, stats), (params_t, x_t) = jax.value_and_grad(loss, (0, 1), has_aux=True)(NORM, X)
    return {"loss": value, "params": params_t, "x": x_t, "stats": stats}


def batch_norm():
    """Make the BatchNorm of the programs as an NNX module."""
    module = nnx.BatchNorm(3, momentum=MOMENTUM, epsilon=EPSILON, rngs=nnx.Rngs(0))
    module.scale[...], module.bias[...] = NORM["scale"], NORM["bias"]
    return module


class BatchNormOnce(Situation):
    """BatchNorm while training"""

    calls = 1

    def expected(self):
        def loss(params, x):
            stats = STATS
            for _ in range(self.calls):
                x, stats = normalize(params, stats, x)
            return square_sum(x), stats

        (value, stats), (params_t, x_t) = jax.value_and_grad(loss, (0, 1), has_aux=True)(NORM, X)
        return {"loss": value, "params": twice(params_t), "x": x_t, "stats": stats}

    def linen(self):
        calls = self.calls

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

                norm = nn.BatchNorm(use_running_average=False, momentum=MOMENTUM)
                ruled = nn.custom_vjp(f, fwd, bwd)
                for _ in range(calls):
                    x = ruled(norm, x)
                return x

        return of_norm(Net())

    def nnx(self):
        params_of = nnx.DiffState(0, nnx.Param)

        def f(m, x):
            return m(x)

        ruled = nnx.custom_vjp(f, nondiff_argnums=(params_of,))

        def fwd(m, x):
            params = {"scale": m.scale[...], "bias": m.bias[...]}
            return m(x), (params, x)

        def bwd(residuals, g):
            (m_g, _), y_t = g
            params, x = residuals
            _, pull = jax.vjp(lambda p, x: normalize(p, STATS, x)[0], params, x)
            params_t, x_t = pull(y_t)
            # What arrives for the module is the gradient of its later uses.
            added = {name: m_g[name][...] + t for name, t in twice(params_t).items()}
            m_t = filled(m_g, **added)
            del m_t["mean"], m_t["var"]  # not differentiable
            return m_t, x_t

        ruled.defvjp(fwd, bwd)
        return self.of_norm_nnx(ruled)

    def nnx_simple(self):
        @nnx.custom_vjp(graph_updates=False)
        def f(m, x):
            return m(x)

        def fwd(m, x):
            before = nnx.clone(m)
            return m(x), (before, x)

        def bwd(residuals, y_t):
            m, x = residuals
            params = {"scale": m.scale[...], "bias": m.bias[...]}
            _, pull = jax.vjp(lambda p, x: normalize(p, STATS, x)[0], params, x)
            params_t, x_t = pull(y_t)
            return cloned(m, twice(params_t)), x_t

        f.defvjp(fwd, bwd)
        return self.of_norm_nnx(f)

    def of_norm_nnx(self, ruled):
        """Differentiate an NNX BatchNorm; the new statistics are part of the result."""
        module, params_of = batch_norm(), nnx.DiffState(0, nnx.Param)

        def loss(m, x):
            for _ in range(self.calls):
                x = ruled(m, x)
            return square_sum(x)

        argnums = (params_of, 1)
        value, (params_t, x_t) = nnx.value_and_grad(loss, argnums=argnums)(module, X)
        stats = {"mean": module.mean[...], "var": module.var[...]}
        return {"loss": value, "params": nnx.to_pure_dict(params_t), "x": x_t, "stats": stats}

    def jax(self):
        @jax.custom_vjp
        def f(params, stats, x):
            return normalize(params, stats, x)

        def fwd(params, stats, x):
            y, pull = jax.vjp(lambda p, x: normalize(p, stats, x)[0], params, x)
            return (y, f(params, stats, x)[1]), pull

        def bwd(pull, tangents):
            y_t, _ = tangents
            params_t, x_t = pull(y_t)
            return twice(params_t), None, x_t

        f.defvjp(fwd, bwd)

        def loss(params, x):
            stats = STATS
            for _ in range(self.calls):
                x, stats = f(params, stats, x)
            return square_sum(x), stats

        (value, stats), (params_t, x_t) = jax.value_and_grad(loss, (0, 1), has_aux=True)(NORM, X)
        return {"loss": value, "params": params_t, "x": x_t, "stats": stats}

    def vjpgen(self):
        calls = self.calls

        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                # custom-vjp: bwd=bwd
                def f(mdl, x):
                    return mdl(x)

                def bwd(vjp_fn, y_t):
                    mdl_t, x_t = vjp_fn(y_t)
                    return twice(mdl_t), x_t

                norm = nn.BatchNorm(use_running_average=False, momentum=MOMENTUM)
                for _ in range(calls):
                    x = f(norm, x)
                return x

        return of_norm(Net())


class BatchNormTwice(BatchNormOnce):
    """the same BatchNorm twice in one pass while training"""

    calls = 2


class UpdatedVariable(Situation):
    """a loss that depends on an updated variable"""

    names = "updated value is differentiated"

    def expected(self):
        return gradients(dense)

    def linen(self):
        class Layer(nn.Module):
            @nn.compact
            def __call__(self, x):
                memory = self.variable("memory", "last", jnp.zeros, x.shape)
                memory.value = nn.Dense(3)(x)

        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                def f(mdl, x):
                    return mdl(x)

                def fwd(mdl, x):
                    return nn.vjp(f, mdl, x)

                def bwd(vjp_fn, y_t):
                    return vjp_fn(y_t)

                nn.custom_vjp(f, fwd, bwd)(Layer(), x)

        return self._of_memory(Net())

    @staticmethod
    def _of_memory(module):
        """Differentiate a loss of the variable that the pass has written."""

        def run(params, x):
            variables = {"params": {"Layer_0": {"Dense_0": params}}}
            memory = {"memory": {"Layer_0": {"last": jnp.zeros_like(x)}}}
            _, new = module.apply({**variables, **memory}, x, mutable="memory")
            return new["memory"]["Layer_0"]["last"]

        return gradients(run)

    def nnx(self):
        class Layer(nnx.Module):
            def __init__(self):
                self.dense = linear()
                self.last = nnx.BatchStat(jnp.zeros_like(X))

            def __call__(self, x):
                self.last[...] = self.dense(x)

        @nnx.custom_vjp
        def f(m, x):
            return m(x)

        def fwd(m, x):
            return m(x), (m, x)

        def bwd(residuals, g):
            (m_g, _), _ = g
            m, x = residuals
            last_t = m_g["last"][...]
            params_t, x_t = dense_pullback(m.dense.kernel[...], x, last_t)
            m_t = jax.tree.map(jnp.zeros_like, m_g)
            for name, value in params_t.items():
                m_t["dense"][name][...] = value
            return m_t, x_t

        f.defvjp(fwd, bwd)

        def run(m, x):
            f(m, x)
            return m.last[...]

        found = of_nnx(run, Layer())
        return {**found, "params": found["params"]["dense"]}

    def jax(self):
        @jax.custom_vjp
        def f(params, x):
            return None, {"last": dense(params, x)}

        def fwd(params, x):
            return f(params, x), (params, x)

        def bwd(residuals, tangents):
            params, x = residuals
            _, state_t = tangents
            return dense_pullback(params["kernel"], x, state_t["last"])

        f.defvjp(fwd, bwd)
        return gradients(lambda p, x: f(p, x)[1]["last"])

    def vjpgen(self):
        class Layer(nn.Module):
            @nn.compact
            def __call__(self, x):
                memory = self.variable("memory", "last", jnp.zeros, x.shape)
                memory.value = nn.Dense(3)(x)

        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                # custom-vjp: bwd=bwd
                def f(mdl, x):
                    return mdl(x)

                def bwd(vjp_fn, y_t):
                    return vjp_fn(y_t)

                f(Layer(), x)

        return self._of_memory(Net())


class UpdatedVariableAutodiff(UpdatedVariable):
    """its gradient left to autodiff (`missing=autodiff`)"""

    names = None
    no_autodiff = "what the rule does not give cannot be left to autodiff"

    def linen(self):
        raise NotAvailable(self.no_autodiff)

    def nnx(self):
        raise NotAvailable(self.no_autodiff)

    def jax(self):
        raise NotAvailable(self.no_autodiff)

    def vjpgen(self):
        class Layer(nn.Module):
            @nn.compact
            def __call__(self, x):
                memory = self.variable("memory", "last", jnp.zeros, x.shape)
                memory.value = nn.Dense(3)(x)

        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                # custom-vjp: bwd=bwd, missing=autodiff
                def f(mdl, x):
                    return mdl(x)

                def bwd(vjp_fn, y_t):
                    return vjp_fn(y_t)

                f(Layer(), x)

        return self._of_memory(Net())


class UpdatedVariableRule(UpdatedVariable):
    """a rule of one's own for the gradient that arrives at an updated variable"""

    names = None
    vjpgen_says = "not available"

    def linen(self):
        raise NotAvailable("`bwd` is given the output's tangent alone")

    def vjpgen(self):
        raise NotAvailable("`bwd` is given the output's tangent alone: return the value, too")


class OtherCollection(Situation):
    """a differentiated collection outside `grad_vars`"""

    names = "adapters|closed-over"
    grad_vars = "params"

    def linen(self):
        grad_vars = self.grad_vars

        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                def f(mdl, x):
                    return mdl(x)

                def fwd(mdl, x):
                    return nn.vjp(f, mdl, x, vjp_variables=grad_vars)

                def bwd(vjp_fn, y_t):
                    return vjp_fn(y_t)

                return nn.custom_vjp(f, fwd, bwd, grad_vars=grad_vars)(Adapted(), x)

        return self._of_adapted(Net())

    @staticmethod
    def _of_adapted(module):
        """Differentiate with respect to both collections."""
        adapters = {"Adapted_0": {"low": 0.1 * jnp.ones((3, 3))}}
        variables = {"params": {"Adapted_0": {"Dense_0": PARAMS}}, "adapters": adapters}
        return gradients(lambda v, x: module.apply(v, x), variables)

    def nnx(self):
        params_of = nnx.DiffState(0, nnx.Param)

        @nnx.custom_vjp(nondiff_argnums=(params_of,))
        def f(m, x):
            return m(x)

        def fwd(m, x):
            return m(x), (m, x)

        def bwd(residuals, g):
            (m_g, _), y_t = g
            m, x = residuals
            params_t, x_t = dense_pullback(m.dense.kernel[...], x, y_t)
            m_t = filled_below(m_g, "dense", **params_t)
            return m_t, x_t + y_t @ m.low[...].T

        f.defvjp(fwd, bwd)
        both = nnx.DiffState(0, (nnx.Param, Adapter))
        loss = lambda m, x: square_sum(f(m, x))  # noqa: E731
        return nnx.to_pure_dict(nnx.grad(loss, argnums=both)(AdaptedNnx(), X))

    def jax(self):
        raise NotAvailable("there are no collections: every argument has a tangent")

    def vjpgen(self):
        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                # custom-vjp: bwd=bwd
                def f(mdl, x):
                    return mdl(x)

                def bwd(vjp_fn, y_t):
                    return vjp_fn(y_t)

                return f(Adapted(), x)

        return self._of_adapted(Net())


class Adapted(nn.Module):
    """A dense layer with a second matrix in a collection of its own."""

    @nn.compact
    def __call__(self, x):
        low = self.variable("adapters", "low", lambda: 0.1 * jnp.ones((3, 3)))
        return nn.Dense(3)(x) + x @ low.value


class Adapter(nnx.Variable):
    """The kind of that matrix in NNX."""


class AdaptedNnx(nnx.Module):
    """The same layer in NNX."""

    def __init__(self):
        self.dense = linear()
        self.low = Adapter(0.1 * jnp.ones((3, 3)))

    def __call__(self, x):
        return self.dense(x) + x @ self.low[...]


class Misspelt(OtherCollection):
    """a misspelt collection in `grad_vars`"""

    names = "grad_vars='parms'"
    grad_vars = "parms"

    def nnx(self):
        raise NotAvailable("collections are chosen by types and filters, not by names")

    def vjpgen(self):
        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                # custom-vjp: bwd=bwd, grad_vars=parms
                def f(mdl, x):
                    return mdl(x)

                def bwd(vjp_fn, y_t):
                    return {}, vjp_fn(y_t)[1]

                return f(Adapted(), x)

        return self._of_adapted(Net())


class TwoCollections(OtherCollection):
    """tangents of several collections (`grad_vars=(params, adapters)`)"""

    names = None
    grad_vars = ("params", "adapters")

    def expected(self):
        def run(v, x):
            return dense(v["params"], x) + x @ v["adapters"]

        plain = gradients(run, {"params": PARAMS, "adapters": 0.1 * jnp.ones((3, 3))})
        params_t = plain["params"]
        tree = {
            "params": {"Adapted_0": {"Dense_0": params_t["params"]}},
            "adapters": {"Adapted_0": {"low": params_t["adapters"]}},
        }
        return {**plain, "params": tree}

    def nnx(self):
        both = nnx.DiffState(0, (nnx.Param, Adapter))

        @nnx.custom_vjp(nondiff_argnums=(both,))
        def f(m, x):
            return m(x)

        def fwd(m, x):
            return m(x), (m, x)

        def bwd(residuals, g):
            (m_g, _), y_t = g
            m, x = residuals
            params_t, x_t = dense_pullback(m.dense.kernel[...], x, y_t)
            m_t = filled(m_g, low=x.T @ y_t)
            for name, value in params_t.items():
                m_t["dense"][name][...] = value
            return m_t, x_t + y_t @ m.low[...].T

        f.defvjp(fwd, bwd)
        loss = lambda m, x: square_sum(f(m, x))  # noqa: E731
        found = nnx.value_and_grad(loss, argnums=(both, 1))(AdaptedNnx(), X)
        value, (module_t, x_t) = found
        tangents = nnx.to_pure_dict(module_t)
        tree = {
            "params": {"Adapted_0": {"Dense_0": tangents["dense"]}},
            "adapters": {"Adapted_0": {"low": tangents["low"]}},
        }
        return {"loss": value, "params": tree, "x": x_t}

    def jax(self):
        @jax.custom_vjp
        def f(params, adapters, x):
            return dense(params, x) + x @ adapters

        def fwd(params, adapters, x):
            return f(params, adapters, x), (params, adapters, x)

        def bwd(residuals, y_t):
            params, adapters, x = residuals
            params_t, x_t = dense_pullback(params["kernel"], x, y_t)
            return params_t, x.T @ y_t, x_t + y_t @ adapters.T

        f.defvjp(fwd, bwd)
        at = lambda v: v["Adapted_0"]  # noqa: E731
        run = lambda v, x: f(at(v["params"])["Dense_0"], at(v["adapters"])["low"], x)  # noqa: E731
        adapters = {"Adapted_0": {"low": 0.1 * jnp.ones((3, 3))}}
        return gradients(run, {"params": {"Adapted_0": {"Dense_0": PARAMS}}, "adapters": adapters})

    def vjpgen(self):
        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                # custom-vjp: bwd=bwd, grad_vars=(params, adapters)
                def f(mdl, x):
                    return mdl(x)

                def bwd(vjp_fn, y_t):
                    return vjp_fn(y_t)

                return f(Adapted(), x)

        return self._of_adapted(Net())


class Sow(Situation):
    """`sow` inside the function"""

    def expected(self):
        return {**self._doubled(), "sown": dense(PARAMS, X)}

    @staticmethod
    def _doubled():
        plain = gradients(lambda p, x: jnp.tanh(dense(p, x)))
        return {**plain, "params": twice(plain["params"])}

    @staticmethod
    def _of_sown(module):
        """Differentiate; what was sown is part of the result."""

        def loss(params, x):
            variables = {"params": {"Layer_0": {"Dense_0": params}}}
            y, new = module.apply(variables, x, mutable="intermediates")
            return square_sum(y), new["intermediates"]["Layer_0"]["hidden"][0]

        (value, sown), (params_t, x_t) = jax.value_and_grad(loss, (0, 1), has_aux=True)(PARAMS, X)
        return {"loss": value, "params": params_t, "x": x_t, "sown": sown}

    def linen(self):
        class Layer(nn.Module):
            @nn.compact
            def __call__(self, x):
                x = nn.Dense(3)(x)
                self.sow("intermediates", "hidden", x)
                return jnp.tanh(x)

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

                return nn.custom_vjp(f, fwd, bwd)(Layer(), x)

        return self._of_sown(Net())

    def nnx(self):
        class Layer(nnx.Module):
            def __init__(self):
                self.dense = linear()

            def __call__(self, x):
                x = self.dense(x)
                self.sow(nnx.Intermediate, "hidden", x)
                return jnp.tanh(x)

        params_of = nnx.DiffState(0, nnx.Param)

        @nnx.custom_vjp(nondiff_argnums=(params_of,))
        def f(m, x):
            return m(x)

        def fwd(m, x):
            y = m(x)
            return y, (m.dense.kernel[...], x, y)

        def bwd(residuals, g):
            (m_g, _), y_t = g
            kernel, x, y = residuals
            params_t, x_t = dense_pullback(kernel, x, y_t * (1 - y**2))
            m_t = filled_below(m_g, "dense", **twice(params_t))
            return m_t, x_t

        f.defvjp(fwd, bwd)
        module = Layer()
        loss = lambda m, x: square_sum(f(m, x))  # noqa: E731
        value, (params_t, x_t) = nnx.value_and_grad(loss, argnums=(params_of, 1))(module, X)
        params_t = nnx.to_pure_dict(params_t)["dense"]
        sown = module.hidden.get_value()[0]
        return {"loss": value, "params": params_t, "x": x_t, "sown": sown}

    def jax(self):
        raise NotAvailable("there is no `sow`: the value is one more output")

    def vjpgen(self):
        class Layer(nn.Module):
            @nn.compact
            def __call__(self, x):
                x = nn.Dense(3)(x)
                self.sow("intermediates", "hidden", x)
                return jnp.tanh(x)

        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                # custom-vjp: bwd=bwd
                def f(mdl, x):
                    return mdl(x)

                def bwd(vjp_fn, y_t):
                    mdl_t, x_t = vjp_fn(y_t)
                    return twice(mdl_t), x_t

                return f(Layer(), x)

        return self._of_sown(Net())


class DropoutInJit(Situation):
    """dropout in `grad` of `jit`: the mask that the evaluation draws"""

    def expected(self):
        """Each program returns how far the gradient's loss is from the evaluated one: 0."""
        return jnp.float32(0)

    @staticmethod
    def _of_dropout(module):
        """Compare the loss that is returned with the gradient to the one without."""

        def loss(params, x):
            return module.apply(
                {"params": {"Layer_0": {"Dense_0": params}}}, x, rngs={"dropout": KEY}
            ).sum()

        evaluated = loss(PARAMS, X)
        differentiated, _ = jax.value_and_grad(jax.jit(loss))(PARAMS, X)
        return abs(evaluated - differentiated).round(4)

    def linen(self):
        class Layer(nn.Module):
            @nn.compact
            def __call__(self, x):
                return nn.Dropout(0.5, deterministic=False)(nn.Dense(3)(x))

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

                return nn.custom_vjp(f, fwd, bwd)(Layer(), x)

        return self._of_dropout(Net())

    def nnx(self):
        params_of = nnx.DiffState(0, nnx.Param)

        @nnx.custom_vjp(nondiff_argnums=(params_of,))
        def f(m, x):
            return m(x)

        def fwd(m, x):
            return m(x), m.dense.kernel[...]

        def bwd(kernel, g):
            (m_g, _), y_t = g
            return filled_below(m_g, "dense"), y_t @ kernel.T

        f.defvjp(fwd, bwd)
        return self.of_dropout_nnx(f)

    def nnx_simple(self):
        @nnx.custom_vjp(graph_updates=False)
        def f(m, x):
            return m(x)

        def fwd(m, x):
            before = nnx.clone(m)
            return m(x), before

        def bwd(m, y_t):
            return cloned(m, {}), y_t @ m.dense.kernel[...].T

        f.defvjp(fwd, bwd)
        return self.of_dropout_nnx(f)

    @staticmethod
    def of_dropout_nnx(f):
        """Compare the loss that is returned with the gradient to the one without."""
        params_of = nnx.DiffState(0, nnx.Param)
        loss = lambda m, x: f(m, x).sum()  # noqa: E731
        evaluated = loss(DropoutNnx(), X)
        graded = nnx.value_and_grad(nnx.jit(loss), argnums=params_of)
        return abs(evaluated - graded(DropoutNnx(), X)[0]).round(4)

    def jax(self):
        @jax.custom_vjp
        def f(params, x, key):
            y = dense(params, x)
            return jnp.where(jax.random.bernoulli(key, 0.5, y.shape), y / 0.5, 0)

        def fwd(params, x, key):
            return f(params, x, key), (params, x)

        def bwd(residuals, y_t):
            params, x = residuals
            params_t, x_t = dense_pullback(params["kernel"], x, y_t)
            return twice(params_t), x_t, None

        f.defvjp(fwd, bwd)
        loss = lambda p, x: f(p, x, KEY).sum()  # noqa: E731
        evaluated = loss(PARAMS, X)
        return abs(evaluated - jax.value_and_grad(jax.jit(loss))(PARAMS, X)[0]).round(4)

    def vjpgen(self):
        class Layer(nn.Module):
            @nn.compact
            def __call__(self, x):
                return nn.Dropout(0.5, deterministic=False)(nn.Dense(3)(x))

        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                # custom-vjp: bwd=bwd
                def f(mdl, x):
                    return mdl(x)

                def bwd(vjp_fn, y_t):
                    mdl_t, x_t = vjp_fn(y_t)
                    return twice(mdl_t), x_t

                return f(Layer(), x)

        return self._of_dropout(Net())


class DropoutNnx(nnx.Module):
    """A dense layer and dropout in NNX."""

    def __init__(self):
        self.dense = linear()
        self.dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(KEY))

    def __call__(self, x):
        return self.dropout(self.dense(x))
