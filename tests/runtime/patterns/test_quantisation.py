"""Learned step sizes, calibration carried in the cotangent, a quantised product in layers."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vjpgen
from tests.runtime.compare import assert_same, double

X = jax.random.normal(jax.random.key(1), (5, 4))
KEY = jax.random.key(0)
WRAPS = {"plain": lambda f: f, "remat": jax.checkpoint}


@pytest.fixture(scope="module")
def quantisation(pair):
    return pair("patterns/quantisation")


@pytest.mark.parametrize("bits", [2, 8])
def test_lsq(quantisation, x64, bits):
    """The step's gradient is that of the paper, and of the surrogate whose rounding is frozen."""
    x = np.linspace(-3.1, 2.9, 41)
    step, seed = 0.4 if bits == 2 else 0.02, np.cos(np.arange(41))
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1

    def loss(x, step):
        return (seed * quantisation.lifted.lsq(x, step, bits=bits)).sum()

    level = x / step
    inside = (low <= level) & (level <= high)
    assert 0 < inside.sum() < 41
    slope = np.where(inside, np.round(level) - level, np.clip(level, low, high))
    expected = seed * inside, np.sum(seed * slope) / np.sqrt(41 * high)
    found = jax.jit(jax.grad(loss, (0, 1)))(jnp.asarray(x), jnp.asarray(step))
    assert_same(found, jax.tree.map(jnp.asarray, expected), rtol=1e-12)

    def surrogate(step):
        frozen = jnp.clip(jnp.round(x / 0.4), low, high) - jnp.clip(x / 0.4, low, high)
        return (seed * (frozen + jnp.clip(x / step, low, high)) * step).sum() / np.sqrt(41 * high)

    if bits == 2:
        numeric = (surrogate(step + 1e-6) - surrogate(step - 1e-6)) / 2e-6
        np.testing.assert_allclose(found[1], numeric, rtol=1e-7)


def lsq_by_hand(plain):
    """The rule again, over explicit arguments."""
    function = jax.custom_vjp(plain.lsq, nondiff_argnums=(2,))
    function.defvjp(plain.lsq_fwd, plain.lsq_bwd)
    return lambda x, step: function(x, step, 8)


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
def test_int8_dense(quantisation, wrap):
    lsq = lsq_by_hand(quantisation.plain)
    lifted = quantisation.lifted.Int8Dense(3)
    params = lifted.init(KEY, X)["params"]

    def loss(p, x):
        return lifted.apply({"params": p}, x).sum()

    def by_hand(p, x):
        return (lsq(x, p["input_step"]) @ lsq(p["kernel"], p["kernel_step"])).sum()

    expected = jax.jit(jax.grad(wrap(by_hand), (0, 1)))(params, X)
    assert_same(jax.jit(jax.grad(wrap(loss), (0, 1)))(params, X), expected, rtol=1e-6)
    assert float(abs(expected[0]["kernel_step"])) > 0


def test_lsq_with_a_step_for_each_channel(quantisation):
    """vmap over channels gives each its own step and step gradient."""
    steps = jnp.array([0.01, 0.02, 0.3, 0.4])
    per_channel = lambda f: lambda x, s: jax.vmap(f, (1, 0), 1)(x, s)  # noqa: E731
    found = jax.jit(
        jax.grad(lambda x, s: (per_channel(quantisation.lifted.lsq)(x, s) ** 2).sum(), (0, 1))
    )(X, steps)
    by_hand = lsq_by_hand(quantisation.plain)
    one = jax.jit(jax.grad(lambda x, s: (by_hand(x, s) ** 2).sum(), (0, 1)))
    each = [one(X[:, n], steps[n]) for n in range(4)]
    expected = jnp.stack([x for x, _ in each], 1), jnp.stack([s for _, s in each])
    assert_same(found, expected, rtol=1e-5)


# -- fp8 -------------------------------------------------------------------------------------------

E4M3, E5M2 = 448.0, 57344.0


def rounded(x, dtype, scale):
    greatest = {"float8_e4m3fn": E4M3, "float8_e5m2": E5M2}[dtype]
    clipped = np.clip(np.asarray(x, np.float32) / scale, -greatest, greatest)
    return np.asarray(jnp.asarray(clipped).astype(dtype).astype(jnp.float32)) * scale


def one_step(kernel, state, x, y_t):
    """The layer's gradients and next state, by numpy: `state` maps names to (scale, history)."""
    x8 = rounded(x, "float8_e4m3fn", state["input"][0])
    kernel8 = rounded(kernel, "float8_e4m3fn", state["kernel"][0])
    y8_t = rounded(y_t, "float8_e5m2", state["output"][0])
    after = {}
    for name, value, top in (("input", x, E4M3), ("kernel", kernel, E4M3), ("output", y_t, E5M2)):
        scale, history = state[name]
        scale = np.float32(history.max() / np.float32(top)) if history.max() > 0 else scale
        after[name] = scale, np.array([abs(value).max(), *history[:-1]], np.float32)
    return x8 @ kernel8, x8.T @ y8_t, y8_t @ kernel8.T, after


def state_of(variables):
    """Give the calibration of either layer as `one_step` has it."""
    group = variables["overwrite_with_gradient"]
    if "scale" in group:
        return {
            n: (np.asarray(group["scale"][n]), np.asarray(group["history"][n]))
            for n in group["scale"]
        }
    names = ("input", "kernel", "output")
    return {n: (np.asarray(group[f"{n}_scale"]), np.asarray(group[f"{n}_history"])) for n in names}


@pytest.mark.parametrize("name", ["Fp8Dense", "CalibratedDense"])
def test_fp8_training(quantisation, name):
    """Five steps: the optimiser overwrites scales and histories by their "gradients"."""
    module = getattr(quantisation.lifted, name)(3)
    variables = module.init(KEY, X)
    assert_same(variables, getattr(quantisation.plain, name)(3).init(KEY, X))

    @jax.jit
    def step(variables, x):
        loss = lambda v, x: (0.5 * module.apply(v, x) ** 2).sum()  # noqa: E731
        gradient, x_t = jax.grad(loss, (0, 1))(variables, x)
        return quantisation.lifted.sgd(variables, gradient, 0.01), x_t

    kernel, state = np.asarray(variables["params"]["kernel"]), state_of(variables)
    for n in range(5):
        x = X * (n + 1)
        y, _, _, _ = one_step(kernel, state, np.asarray(x), np.zeros((5, 3), np.float32))
        _, kernel_t, x_t, state = one_step(kernel, state, np.asarray(x), y)
        kernel = kernel - np.float32(0.01) * kernel_t
        variables, found = step(variables, x)
        np.testing.assert_allclose(found, x_t, rtol=1e-5)
        np.testing.assert_allclose(variables["params"]["kernel"], kernel, rtol=1e-5)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), state_of(variables), state
        )
    assert state["input"][0] != 1


@pytest.mark.parametrize("name", ["Fp8Dense", "CalibratedDense"])
def test_fp8_layers_under_scan(quantisation, name):
    """A scanned stack keeps one calibration a layer; the layers unrolled have the same ones."""

    cls = getattr(quantisation.lifted, name)

    class Stack(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.scan(
                nn.remat(lambda layer, x, _: (layer(x), None)),
                variable_axes={"params": 0, "overwrite_with_gradient": 0},
                split_rngs={"params": True},
                length=3,
            )(cls(4, name="layer"), x, None)[0]

    variables = Stack().init(KEY, X)["params"], Stack().init(KEY, X)["overwrite_with_gradient"]

    def scanned(params, state):
        both = {"params": params, "overwrite_with_gradient": state}
        return (Stack().apply(both, X) ** 2).sum()

    def unrolled(params, state):
        x = X
        for n in range(3):
            one = jax.tree.map(lambda v, n=n: v[n], (params["layer"], state["layer"]))
            x = cls(4).apply({"params": one[0], "overwrite_with_gradient": one[1]}, x)
        return (x**2).sum()

    found = jax.jit(jax.grad(scanned, (0, 1)))(*variables)
    assert_same(found, jax.jit(jax.grad(unrolled, (0, 1)))(*variables), rtol=1e-5)
    for history in jax.tree.leaves(found[1]):
        assert history.shape[0] == 3


# -- a quantised dot_general -----------------------------------------------------------------------


def product_by_hand(x, kernel, contracted):
    """Lift by hand: the layer's product, flattened to one of matrices."""
    rows = x.reshape(x.shape[0], -1) if contracted > 1 else x
    columns = kernel.reshape(rows.shape[-1], -1)

    @jax.custom_vjp
    def f(x, kernel):
        integers = []
        for value, axis in ((x, 1), (kernel, 0)):
            scale = jnp.abs(value).max(axis, keepdims=True) / 127
            integers.append(jnp.round(value / scale) * scale)
        return integers[0] @ integers[1]

    f.defvjp(lambda x, k: (f(x, k), (x, k)), lambda saved, t: (t @ saved[1].T, saved[0].T @ t))
    return f(rows, columns)


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
def test_dot_general_inside_of_layers(pair, x64, wrap):
    found = pair("patterns/dot_general")
    x = double(X)
    module = found.lifted.Network()
    variables = double(module.init(KEY, x))
    assert_same(variables, double(found.plain.Network().init(KEY, x)))
    gains = {"Dense_0": 1.5, "DenseGeneral_0": 0.5, "DenseGeneral_1": -2.0}
    params = {
        name: {**layer, "Int8DotGeneral_0": {"gain": jnp.asarray(gains[name])}}
        for name, layer in variables["params"].items()
    }

    def by_hand(params, x):
        for n, (name, contracted) in enumerate(
            (("Dense_0", 1), ("DenseGeneral_0", 1), ("DenseGeneral_1", 2))
        ):
            layer = params[name]
            gain = layer["Int8DotGeneral_0"]["gain"]
            y = gain * product_by_hand(x, layer["kernel"], contracted)
            x = y.reshape(x.shape[0], *layer["bias"].shape) + layer["bias"]
            x = jnp.tanh(x) if n < 2 else x
        return x

    def loss(params, x):
        y, updates = module.apply({**variables, "params": params}, x, mutable=["statistics"])
        return (y**2).sum(), updates["statistics"]

    derive = jax.jit(jax.value_and_grad(wrap(loss), (0, 1), has_aux=True))
    (value, statistics), gradient = derive(params, x)
    reference = jax.jit(jax.value_and_grad(lambda p, x: (by_hand(p, x) ** 2).sum(), (0, 1)))
    expected = reference(params, x)
    assert_same((value, gradient), expected, rtol=1e-10)
    assert_same(statistics, jax.tree.map(jnp.ones_like, variables["statistics"]))


def test_dot_general_inside_of_a_vmapped_dense(pair):
    """nn.vmap over experts: the product has no batch dimension of its own to tell of."""
    found = pair("patterns/dot_general")

    def experts(cls):
        return nn.vmap(
            nn.Dense,
            variable_axes={"params": 0, "statistics": 0},
            split_rngs={"params": True},
            axis_size=3,
            in_axes=None,
        )(2, dot_general_cls=cls, use_bias=False)

    module = experts(found.lifted.Int8DotGeneral)
    variables = module.init(KEY, X)
    kernels = variables["params"]["kernel"]
    loss = lambda v: (module.apply({**variables, "params": v}, X) ** 2).sum()  # noqa: E731
    gradient = jax.jit(jax.grad(loss))(variables["params"])
    by_hand = lambda kernels: sum((product_by_hand(X, k, 1) ** 2).sum() for k in kernels)  # noqa: E731
    expected = jax.jit(jax.grad(by_hand))(kernels)
    assert_same(gradient["kernel"], expected, rtol=1e-4)


def test_the_library_s_function_takes_the_same_static_dimensions():
    """The drop-in, as AQT calls it: the dimension numbers by place, `grad_vars=True`."""

    class Product(nn.Module):
        @nn.compact
        def __call__(self, lhs, rhs, dimension_numbers, precision=None):
            def f(mdl, lhs, rhs, dimension_numbers):
                scale = mdl.param("scale", nn.initializers.ones, ())
                return scale * jax.lax.dot_general(lhs, rhs, dimension_numbers)

            def fwd(mdl, lhs, rhs, dimension_numbers):
                return nn.vjp(lambda m, a, b: f(m, a, b, dimension_numbers), mdl, lhs, rhs)

            def bwd(dimension_numbers, vjp_fn, y_t):
                assert dimension_numbers == (((1,), (0,)), ((), ()))
                mdl_t, lhs_t, rhs_t = vjp_fn(y_t)
                return mdl_t, 2 * lhs_t, 3 * rhs_t

            lift = vjpgen.custom_vjp(f, fwd, bwd, grad_vars=True, nondiff_argnums=(3,))
            return lift(self, lhs, rhs, dimension_numbers)

    module = nn.Dense(3, dot_general_cls=Product)
    variables = module.init(KEY, X)
    params_t, x_t = jax.grad(lambda v, x: module.apply(v, x).sum(), (0, 1))(variables, X)
    kernel = variables["params"]["kernel"]
    ones = jnp.ones((5, 3))
    assert_same(x_t, 2 * ones @ kernel.T, rtol=1e-6)
    assert_same(params_t["params"]["kernel"], 3 * X.T @ ones, rtol=1e-6)
