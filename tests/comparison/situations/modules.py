"""Which modules a rule is put on, and how they reach it."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from tests.comparison.loading import refused
from tests.comparison.outcomes import NotAvailable
from tests.comparison.programs import (
    PARAMS,
    TWICE,
    X,
    cloned,
    dense,
    dense_pullback,
    filled,
    gradients,
    linear,
    of_linen,
    of_nnx,
    square_sum,
    twice,
    with_twice,
)
from tests.comparison.situation import Situation

TWO = {"Dense_0": PARAMS, "Dense_1": jax.tree.map(lambda p: 0.5 * p, PARAMS)}


def product(params: Any, x: Any) -> Any:
    """Two dense layers, multiplied."""
    return dense(params["Dense_0"], x) * dense(params["Dense_1"], x)


def product_pullback(first: Any, second: Any, x: Any, y_t: Any) -> tuple[Any, Any, Any]:
    """The tangents of two layers, given by kernel and output, and of the input."""
    (kernel_1, y_1), (kernel_2, y_2) = first, second
    one_t, x_t = dense_pullback(kernel_1, x, y_t * y_2)
    two_t, also_t = dense_pullback(kernel_2, x, y_t * y_1)
    return one_t, two_t, x_t + also_t


class Pair(nnx.Module):
    """Two dense layers as one NNX module, for the gradient of both."""

    def __init__(self):
        self.Dense_0 = linear()
        self.Dense_1 = nnx.clone(self.Dense_0)
        for name, value in TWO["Dense_1"].items():
            getattr(self.Dense_1, name)[...] = value


class FurtherArgument(Situation):
    """a module as a further argument"""

    def expected(self):
        return with_twice(product, TWO)

    def linen(self):
        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                def f(one, x, two):
                    return one(x) * two(x)

                def fwd(one, x, two):
                    return nn.vjp(f, one, x, two)

                def bwd(vjp_fn, y_t):
                    one_t, x_t, two_t = vjp_fn(y_t)
                    return twice(one_t), x_t, twice(two_t)

                return nn.custom_vjp(f, fwd, bwd)(nn.Dense(3), x, nn.Dense(3))

        return of_linen(Net(), TWO)

    def nnx(self):
        @nnx.custom_vjp
        def f(one, x, two):
            return one(x) * two(x)

        def fwd(one, x, two):
            return f(one, x, two), (one, x, two)

        def bwd(residuals, g):
            (one_g, _, two_g), y_t = g
            one, x, two = residuals
            parts = (one.kernel[...], one(x)), (two.kernel[...], two(x))
            one_t, two_t, x_t = product_pullback(*parts, x, y_t)
            return filled(one_g, **twice(one_t)), x_t, filled(two_g, **twice(two_t))

        f.defvjp(fwd, bwd)
        return of_nnx(lambda pair, x: f(pair.Dense_0, x, pair.Dense_1), Pair())

    def jax(self):
        @jax.custom_vjp
        def f(one, x, two):
            return dense(one, x) * dense(two, x)

        def fwd(one, x, two):
            return f(one, x, two), (one, x, two)

        def bwd(residuals, y_t):
            one, x, two = residuals
            parts = (one["kernel"], dense(one, x)), (two["kernel"], dense(two, x))
            one_t, two_t, x_t = product_pullback(*parts, x, y_t)
            return twice(one_t), x_t, twice(two_t)

        f.defvjp(fwd, bwd)
        return gradients(lambda p, x: f(p["Dense_0"], x, p["Dense_1"]), TWO)

    def vjpgen(self):
        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                # custom-vjp: bwd=bwd
                def f(one, x, two):
                    return one(x) * two(x)

                def bwd(vjp_fn, y_t):
                    one_t, x_t, two_t = vjp_fn(y_t)
                    return twice(one_t), x_t, twice(two_t)

                return f(nn.Dense(3), x, nn.Dense(3))

        return of_linen(Net(), TWO)


class TupleOfModules(Situation):
    """a tuple of modules as first argument"""

    @staticmethod
    def join(one: Any, two: Any) -> Any:
        """Put two modules into the argument."""
        return one, two

    @staticmethod
    def part(pair: Any) -> tuple[Any, Any]:
        """Take both from it."""
        one, two = pair
        return one, two

    def expected(self):
        return with_twice(product, TWO)

    def linen(self):
        join, part = self.join, self.part

        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                def f(pair, x):
                    one, two = part(pair)
                    return one(x) * two(x)

                def fwd(pair, x):
                    return nn.vjp(f, pair, x)

                def bwd(vjp_fn, y_t):
                    pair_t, x_t = vjp_fn(y_t)
                    return twice(pair_t), x_t

                return nn.custom_vjp(f, fwd, bwd)(join(nn.Dense(3), nn.Dense(3)), x)

        return of_linen(Net(), TWO)

    def nnx(self):
        join, part = self.join, self.part

        @nnx.custom_vjp
        def f(pair, x):
            one, two = part(pair)
            return one(x) * two(x)

        def fwd(pair, x):
            return f(pair, x), (pair, x)

        def bwd(residuals, g):
            (pair_g, _), y_t = g
            pair, x = residuals
            one, two = part(pair)
            parts = (one.kernel[...], one(x)), (two.kernel[...], two(x))
            one_t, two_t, x_t = product_pullback(*parts, x, y_t)
            one_g, two_g = part(pair_g)
            return join(filled(one_g, **twice(one_t)), filled(two_g, **twice(two_t))), x_t

        f.defvjp(fwd, bwd)
        return of_nnx(lambda m, x: f(join(m.Dense_0, m.Dense_1), x), Pair())

    def jax(self):
        join, part = self.join, self.part

        @jax.custom_vjp
        def f(pair, x):
            one, two = part(pair)
            return dense(one, x) * dense(two, x)

        def fwd(pair, x):
            return f(pair, x), (pair, x)

        def bwd(residuals, y_t):
            pair, x = residuals
            one, two = part(pair)
            parts = (one["kernel"], dense(one, x)), (two["kernel"], dense(two, x))
            one_t, two_t, x_t = product_pullback(*parts, x, y_t)
            return join(twice(one_t), twice(two_t)), x_t

        f.defvjp(fwd, bwd)
        return gradients(lambda p, x: f(join(p["Dense_0"], p["Dense_1"]), x), TWO)

    def vjpgen(self):
        join, part = self.join, self.part

        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                # custom-vjp: bwd=bwd
                def f(pair, x):
                    one, two = part(pair)
                    return one(x) * two(x)

                def bwd(vjp_fn, y_t):
                    pair_t, x_t = vjp_fn(y_t)
                    return twice(pair_t), x_t

                return f(join(nn.Dense(3), nn.Dense(3)), x)

        return of_linen(Net(), TWO)


class DictOfModules(TupleOfModules):
    """a dict of modules as first argument"""

    @staticmethod
    def join(one, two):
        return {"one": one, "two": two}

    @staticmethod
    def part(pair):
        return pair["one"], pair["two"]


class Holder(nnx.Module):
    """An NNX module that holds another one, and calls it on twice its input."""

    def __init__(self, table: Any):
        self.table = table

    def __call__(self, x: Any) -> Any:
        return self.table(2 * x)


class SharedAttribute(Situation):
    """a module shared through an attribute"""

    def expected(self):
        plain = gradients(lambda p, x: dense(p, x) + dense(p, 2 * x))
        # The rule stands on the second use alone: the first has its plain gradient.
        once, again = jax.vjp(lambda p, q: dense(p, X) + dense(q, 2 * X), PARAMS, PARAMS)
        first_t, second_t = again(2 * once)
        return {**plain, "params": jax.tree.map(lambda a, b: a + TWICE * b, first_t, second_t)}

    def linen(self):
        class Holds(nn.Module):
            table: Any

            @nn.compact
            def __call__(self, x):
                return self.table(2 * x)

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

                table = nn.Dense(3)
                return table(x) + nn.custom_vjp(f, fwd, bwd)(Holds(table), x)

        return of_linen(Net())

    def nnx(self):
        @nnx.custom_vjp
        def f(m, x):
            return m(x)

        def fwd(m, x):
            return f(m, x), (m, x)

        def bwd(residuals, g):
            (m_g, _), y_t = g
            m, x = residuals
            params_t, x_t = dense_pullback(m.table.kernel[...], 2 * x, y_t)
            m_t = jax.tree.map(lambda t: t, m_g)
            for name, value in twice(params_t).items():
                m_t["table"][name][...] = value
            return m_t, 2 * x_t

        f.defvjp(fwd, bwd)
        return of_nnx(lambda table, x: table(x) + f(Holder(table), x))

    def jax(self):
        @jax.custom_vjp
        def f(params, x):
            return dense(params, 2 * x)

        def fwd(params, x):
            return f(params, x), (params, x)

        def bwd(residuals, y_t):
            params, x = residuals
            params_t, x_t = dense_pullback(params["kernel"], 2 * x, y_t)
            return twice(params_t), 2 * x_t

        f.defvjp(fwd, bwd)
        return gradients(lambda p, x: dense(p, x) + f(p, x))

    def vjpgen(self):
        class Holds(nn.Module):
            table: Any

            @nn.compact
            def __call__(self, x):
                return self.table(2 * x)

        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                # custom-vjp: bwd=bwd
                def f(mdl, x):
                    return mdl(x)

                def bwd(vjp_fn, y_t):
                    mdl_t, x_t = vjp_fn(y_t)
                    return twice(mdl_t), x_t

                table = nn.Dense(3)
                return table(x) + f(Holds(table), x)

        return of_linen(Net())


class CalledTwice(Situation):
    """the same module twice in one pass, each time with its rule"""

    def expected(self):
        return with_twice(lambda p, x: dense(p, 2 * dense(p, x)))

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

                layer, ruled = nn.Dense(3), nn.custom_vjp(f, fwd, bwd)
                return ruled(layer, 2 * ruled(layer, x))

        return of_linen(Net())

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
        return of_nnx(lambda m, x: f(m, 2 * f(m, x)))

    def nnx_simple(self):
        @nnx.custom_vjp(graph_updates=False)
        def f(m, x):
            return m(x)

        def fwd(m, x):
            return f(m, x), (m, x)

        def bwd(residuals, y_t):
            m, x = residuals
            params_t, x_t = dense_pullback(m.kernel[...], x, y_t)
            return cloned(m, twice(params_t)), x_t

        f.defvjp(fwd, bwd)
        return of_nnx(lambda m, x: f(m, 2 * f(m, x)))

    def jax(self):
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
        return gradients(lambda p, x: f(p, 2 * f(p, x)))

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

                layer = nn.Dense(3)
                return f(layer, 2 * f(layer, x))

        return of_linen(Net())


class Recursion(Situation):
    """the method called in its own forward rule, as `mdl(x)`"""

    def expected(self):
        return with_twice(lambda p, x: jnp.tanh(dense(p, x)))

    def linen(self):
        def fwd(mdl, x):
            return nn.vjp(lambda m, x: m(x), mdl, x)

        def bwd(vjp_fn, y_t):
            mdl_t, x_t = vjp_fn(y_t)
            return twice(mdl_t), x_t

        class Net(nn.Module):
            @nn.compact
            def body(self, x):
                return jnp.tanh(nn.Dense(3)(x))

            def __call__(self, x):
                return nn.custom_vjp(Net.body, fwd, bwd)(self, x)

        return of_linen(Net())

    def nnx(self):
        def f(m, x):
            return jnp.tanh(m.layer(x))

        class Net(nnx.Module):
            def __init__(self):
                self.layer = linear()

            def __call__(self, x):
                return ruled(self, x)

        ruled = nnx.custom_vjp(f)

        def fwd(m, x):
            return m(x), (m, x)

        def bwd(residuals, g):
            (m_g, _), y_t = g
            m, x = residuals
            params_t, x_t = dense_pullback(m.layer.kernel[...], x, y_t * (1 - f(m, x) ** 2))
            m_t = jax.tree.map(lambda t: t, m_g)
            for name, value in twice(params_t).items():
                m_t["layer"][name][...] = value
            return m_t, x_t

        ruled.defvjp(fwd, bwd)
        found = of_nnx(lambda m, x: m(x), Net())
        return {**found, "params": found["params"]["layer"]}

    def jax(self):
        @jax.custom_vjp
        def f(params, x):
            return jnp.tanh(dense(params, x))

        def fwd(params, x):
            y = f(params, x)
            return y, (params, x, y)

        def bwd(residuals, y_t):
            params, x, y = residuals
            params_t, x_t = dense_pullback(params["kernel"], x, y_t * (1 - y**2))
            return twice(params_t), x_t

        f.defvjp(fwd, bwd)
        return gradients(f)

    def vjpgen(self):
        def fwd(mdl, x):
            return nn.vjp(lambda m, x: m(x), mdl, x)

        def bwd(vjp_fn, y_t):
            mdl_t, x_t = vjp_fn(y_t)
            return twice(mdl_t), x_t

        class Net(nn.Module):
            # custom-vjp: fwd=fwd, bwd=bwd
            @nn.compact
            def __call__(self, x):
                return jnp.tanh(nn.Dense(3)(x))

        return of_linen(Net())


class BackwardMethod(Situation):
    """a backward rule that needs the module's fields and variables"""

    def expected(self):
        plain = gradients(lambda p, x: 3 * dense(p, x))
        return {**plain, "x": jnp.clip(plain["x"], -5.0, 5.0)}

    def linen(self):
        class Net(nn.Module):
            limit: float

            @nn.compact
            def __call__(self, x):
                def f(mdl, x):
                    return 3 * mdl(x)

                def fwd(mdl, x):
                    return f(mdl, x), (x, mdl.variables["params"])  # a snapshot by hand

                def bwd(residuals, y_t):
                    x, params = residuals
                    params_t, x_t = dense_pullback(params["kernel"], x, 3 * y_t)
                    return {"params": params_t}, jnp.clip(x_t, -self.limit, self.limit)

                return nn.custom_vjp(f, fwd, bwd)(nn.Dense(3), x)

        return of_linen(Net(5.0))

    def nnx(self):
        class Net(nnx.Linear):
            limit = 5.0

        module = Net(3, 3, rngs=nnx.Rngs(0))
        for name, value in PARAMS.items():
            getattr(module, name)[...] = value

        @nnx.custom_vjp
        def f(m, x):
            return 3 * m(x)

        def fwd(m, x):
            return f(m, x), (m, x)

        def bwd(residuals, g):
            (m_g, _), y_t = g
            m, x = residuals
            params_t, x_t = dense_pullback(m.kernel[...], x, 3 * y_t)
            return filled(m_g, **params_t), jnp.clip(x_t, -m.limit, m.limit)

        f.defvjp(fwd, bwd)
        return of_nnx(f, module)

    def jax(self):
        limit = 5.0

        @jax.custom_vjp
        def f(params, x):
            return 3 * dense(params, x)

        def fwd(params, x):
            return f(params, x), (params, x)

        def bwd(residuals, y_t):
            params, x = residuals
            params_t, x_t = dense_pullback(params["kernel"], x, 3 * y_t)
            return params_t, jnp.clip(x_t, -limit, limit)

        f.defvjp(fwd, bwd)
        return gradients(f)

    def vjpgen(self):
        class Net(nn.Module):
            limit: float

            # custom-vjp: fwd=keep, bwd=pull
            @nn.compact
            def __call__(self, x):
                return 3 * nn.Dense(3)(x)

            def keep(self, x):
                return self(x), x

            def pull(self, x, y_t):
                kernel = self.get_variable("params", "Dense_0")["kernel"]
                params_t, x_t = dense_pullback(kernel, x, 3 * y_t)
                return {"params": {"Dense_0": params_t}}, jnp.clip(x_t, -self.limit, self.limit)

        return of_linen(Net(5.0))


class CapturedInBackward(Situation):
    """a nested backward rule that reads the variables of a layer around it"""

    vjpgen_says = "refused (`VJP301`)"

    def expected(self):
        return with_twice(dense)

    def linen(self):
        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                def f(mdl, x):
                    return mdl(x)

                def fwd(mdl, x):
                    return f(mdl, x), x

                def bwd(x, y_t):
                    kernel = layer.get_variable("params", "kernel")
                    params_t, x_t = dense_pullback(kernel, x, y_t)
                    return {"params": twice(params_t)}, x_t

                layer = nn.Dense(3)
                return nn.custom_vjp(f, fwd, bwd)(layer, x)

        return of_linen(Net())

    def nnx(self):
        def net(layer, x):
            @nnx.custom_vjp
            def f(m, x):
                return m(x)

            def fwd(m, x):
                return f(m, x), x

            def bwd(x, g):
                (m_g, _), y_t = g
                params_t, x_t = dense_pullback(layer.kernel[...], x, y_t)
                return filled(m_g, **twice(params_t)), x_t

            f.defvjp(fwd, bwd)
            return f(layer, x)

        return of_nnx(net)

    def jax(self):
        def net(params, x):
            @jax.custom_vjp
            def f(params, x):
                return dense(params, x)

            def fwd(params, x):
                return f(params, x), x

            def bwd(x, y_t):
                params_t, x_t = dense_pullback(params["kernel"], x, y_t)
                return twice(params_t), x_t

            f.defvjp(fwd, bwd)
            return f(params, x)

        return gradients(net)

    def vjpgen(self):
        return refused(
            "import flax.linen as nn\n\n\n"
            "class Net(nn.Module):\n    @nn.compact\n    def __call__(self, x):\n"
            "        # custom-vjp: fwd=fwd, bwd=bwd\n        def f(mdl, x):\n"
            "            return mdl(x)\n\n        def fwd(mdl, x):\n"
            "            return f(mdl, x), x\n\n        def bwd(x, y_t):\n"
            "            kernel = layer.get_variable('params', 'kernel')\n"
            "            return {'params': {'kernel': x.T @ y_t}}, y_t @ kernel.T\n\n"
            "        layer = nn.Dense(3)\n        return f(layer, x)\n"
        )


class Boxed(Situation):
    """partitioned parameters (`nn.Partitioned`, NNX's sharding metadata)"""

    def expected(self):
        return with_twice(lambda p, x: x @ p["kernel"], {"kernel": PARAMS["kernel"]})

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

                return nn.custom_vjp(f, fwd, bwd)(nn.Dense(3, use_bias=False), x)

        return self._of_boxed(Net())

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
            return filled(m_g, kernel=TWICE * params_t["kernel"]), x_t

        f.defvjp(fwd, bwd)
        mesh = jax.make_mesh((1,), ("model",), axis_types=(AxisType.Auto,))
        with jax.set_mesh(mesh):
            kernel = jax.device_put(PARAMS["kernel"], NamedSharding(mesh, PartitionSpec()))
            module = nnx.Linear(3, 3, use_bias=False, rngs=nnx.Rngs(0))
            module.kernel = nnx.Param(kernel, sharding_names=(None, "model"))
            return of_nnx(f, module)

    def jax(self):
        @jax.custom_vjp
        def f(params, x):
            return x @ params["kernel"].value

        def fwd(params, x):
            return f(params, x), (params, x)

        def bwd(residuals, y_t):
            params, x = residuals
            box = params["kernel"]
            params_t, x_t = dense_pullback(box.value, x, y_t)
            return {"kernel": box.replace_boxed(TWICE * params_t["kernel"])}, x_t

        f.defvjp(fwd, bwd)
        kernel = nn.Partitioned(PARAMS["kernel"], names=(None, "model"))
        found = gradients(f, {"kernel": kernel})
        return {**found, "params": {"kernel": found["params"]["kernel"].value}}

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

                return f(nn.Dense(3, use_bias=False), x)

        return self._of_boxed(Net())

    @staticmethod
    def _of_boxed(module: nn.Module) -> Any:
        """Differentiate with the kernel in a box; the gradient must come in one, too."""
        kernel = nn.Partitioned(PARAMS["kernel"], names=(None, "model"))
        found = of_linen(module, {"Dense_0": {"kernel": kernel}})
        box = found["params"]["Dense_0"]["kernel"]
        assert isinstance(box, nn.Partitioned)
        return {**found, "params": {"kernel": box.value}}


class OnNnx(Situation):
    """a method of an NNX module"""

    vjpgen_says = "refused (`VJP206`)"

    def expected(self):
        return with_twice(dense)

    def linen(self):
        raise NotAvailable("it takes Linen modules")

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
        return of_nnx(f)

    def jax(self):
        graph, _ = nnx.split(linear())

        @jax.custom_vjp
        def f(state, x):
            return nnx.merge(graph, state)(x)

        def fwd(state, x):
            return f(state, x), (state, x)

        def bwd(residuals, y_t):
            state, x = residuals
            params_t, x_t = dense_pullback(state["kernel"][...], x, y_t)
            return filled(state, **twice(params_t)), x_t

        f.defvjp(fwd, bwd)

        def loss(state, x):
            return square_sum(f(state, x))

        value, (state_t, x_t) = jax.value_and_grad(loss, (0, 1))(nnx.split(linear())[1], X)
        return {"loss": value, "params": nnx.to_pure_dict(state_t), "x": x_t}

    def vjpgen(self):
        source = (
            "from flax import nnx\n\n\n"
            "def bwd(vjp_fn, y_t):\n    return vjp_fn(y_t)\n\n\n"
            "class Net(nnx.Module):\n    # custom-vjp: bwd=bwd\n"
            "    def __call__(self, x):\n        return x\n"
        )
        return refused(source)
