"""`check_rule` on every kind of function, argument and claim."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vjpgen
from vjpgen.testing import check_rule, verifying
from vjpgen.testing.examples import ExampleError
from vjpgen.testing.places import place_of

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (4, 3))


@pytest.fixture
def gradients_alone(monkeypatch):
    """Leave out the checks that come after that of gradients, for what they say nothing of."""
    monkeypatch.setattr(verifying, "_CHECKS", verifying._CHECKS[:4])


alone = pytest.mark.usefixtures("gradients_alone")


def ruled(function, fwd, bwd, **options):
    found = jax.custom_vjp(function, **options)
    found.defvjp(fwd, bwd)
    return found


def elementwise(function, derivative):
    return ruled(function, lambda x: (function(x), x), lambda x, y_t: (y_t * derivative(x),))


def relations(report):
    return {leaf.path: leaf.relation for leaf in report.leaves}


# -- kinds of functions ----------------------------------------------------------------------------


class Layer(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(x)


def call(module, x):
    return module(x)


def sign(vjp_fn, y_t):
    variables_t, x_t = vjp_fn(y_t)
    return jax.tree.map(jnp.sign, variables_t), x_t


def test_a_linen_rule_and_a_vjpgen_rule():
    def forward(module, x):
        return nn.vjp(call, module, x)

    linen = nn.custom_vjp(call, forward, sign)
    own = vjpgen.custom_vjp(call, forward, sign)
    reports = [check_rule(each, Layer(), X, surrogate="module") for each in (linen, own)]
    for report in reports:
        assert relations(report) == {
            "params.Dense_0.bias": "different",
            "params.Dense_0.kernel": "different",
            "x": "exact",
        }
        assert {leaf.slot for leaf in report.leaves} == {"module", "x"}
        assert report.name == "call"
    with pytest.raises(AssertionError, match=r"^call \(.*:\d+\): failed \(seed 0\)") as raised:
        check_rule(linen, Layer(), X)
    assert "the gradient of `params.Dense_0.kernel` is wrong" in str(raised.value)


class Outer(nn.Module):
    """Has its rule inside, as most projects have."""

    factor: float

    @nn.compact
    def __call__(self, x):
        def scale(module, x):
            return module(x) * self.factor

        def forward(module, x):
            return nn.vjp(scale, module, x)

        return nn.custom_vjp(scale, forward, sign)(Layer(), jnp.sin(x))


@alone
def test_a_method_with_a_rule_inside_and_a_bound_method():
    unbound = check_rule(Outer.__call__, Outer(2.0), X, surrogate="params")
    bound = check_rule(Outer(2.0).__call__, X, surrogate="params")
    assert unbound.leaves == bound.leaves
    assert relations(unbound)["params.Layer_0.Dense_0.kernel"] == "different"
    assert relations(unbound)["x"] == "exact"


@alone
def test_a_function_that_calls_one_with_a_rule():
    inner = elementwise(jnp.sin, lambda x: 2 * jnp.cos(x))
    report = check_rule(lambda x: jax.jit(inner)(x) ** 2, X, raises=False)
    [error] = [each for each in report.errors if each.check == "gradient"]
    assert error.cause == "a factor of 2 too much: one that is missing or applied twice"


@alone
def test_a_reference_in_place_of_autodiff():
    through = ruled(lambda x: jnp.round(x), lambda x: (jnp.round(x), None), lambda _, t: (t,))
    check_rule(through, X, reference=lambda x: x)
    with pytest.raises(AssertionError, match="the gradient of `x` is wrong"):
        check_rule(through, X, reference=lambda x: 2 * x)


class Stateful(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.BatchNorm(use_running_average=False)(x)
        return nn.Dropout(0.5, deterministic=False)(x)


def test_draws_and_updates_are_the_same_in_the_reference():
    def forward(module, x):
        return vjpgen.vjp(call, module, x)

    report = check_rule(vjpgen.custom_vjp(call, forward, lambda f, t: f(t)), Stateful(), X)
    assert set(relations(report).values()) == {"exact"}


# -- kinds of arguments ----------------------------------------------------------------------------


def test_trees_keywords_integers_and_keys():
    def function(tree, count, key, *, scale):
        drawn = jax.random.bernoulli(key, 0.5, tree["a"].shape)
        return {"y": tree["a"] * tree["b"][0] * scale * drawn, "n": count, "none": None}

    def bwd(residuals, tangents):
        tree, drawn, scale = residuals
        y_t = tangents["y"] * drawn
        a_t, b_t = y_t * tree["b"][0] * scale, y_t * tree["a"] * scale
        return {"a": a_t, "b": (b_t,)}, None, None, jnp.sum(y_t * tree["a"] * tree["b"][0])

    def positional(tree, count, key, scale):
        return function(tree, count, key, scale=scale)

    def fwd(tree, count, key, scale):
        drawn = jax.random.bernoulli(key, 0.5, tree["a"].shape)
        return positional(tree, count, key, scale), (tree, drawn, scale)

    rule = ruled(positional, fwd, bwd)
    tree = {"a": X[0], "b": (X[1],)}
    report = check_rule(rule, tree, jnp.int32(3), KEY, scale=1.5)
    assert relations(report) == {"tree.a": "exact", "tree.b[0]": "exact", "scale": "exact"}


@alone
def test_complex_gradients_and_a_conjugate_that_is_missing():
    def function(z, w):
        return z * z * jnp.conj(w)

    def rule(conj):
        def bwd(residuals, y_t):
            z, w = residuals
            return 2 * z * jnp.conj(w) * y_t, conj(z * z * y_t)

        return ruled(function, lambda z, w: (function(z, w), (z, w)), bwd)

    z, w = X[0] + 1j * X[1], X[2] - 1j * X[3]
    check_rule(rule(jnp.conj), z, w)
    with pytest.raises(AssertionError, match="the complex conjugate of what it is to be"):
        check_rule(rule(lambda x: x), z, w)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_narrow_dtypes(dtype):
    rule = elementwise(jnp.tanh, lambda x: 1 - jnp.tanh(x) ** 2)
    report = check_rule(rule, X.astype(dtype))
    assert report.leaves[0].dtype == np.dtype(dtype).name
    with pytest.raises(AssertionError):
        check_rule(elementwise(jnp.tanh, lambda x: 1 - jnp.tanh(x)), X.astype(dtype))


@alone
def test_small_and_large_scales_zero_sizes_and_many_components():
    def function(x, y, empty):
        return jnp.sum(jnp.tanh(x * 1e6)) * y

    def bwd(residuals, y_t):
        x, y = residuals
        tanh = jnp.tanh(x * 1e6)
        x_t = jnp.sum(y_t * y) * (1 - tanh * tanh) * 1e6
        return x_t, y_t * jnp.sum(tanh), jnp.zeros((0,), x.dtype)

    rule = ruled(function, lambda x, y, empty: (function(x, y, empty), (x, y)), bwd)
    many = jax.random.normal(KEY, (50_000,)) * 1e-6
    check_rule(rule, many, X * 1e6, jnp.zeros((0,)))


def test_nondiff_arguments_and_python_numbers():
    def power(n, x, scale):
        return scale * x**n

    def bwd(n, residuals, y_t):
        x, scale = residuals
        return y_t * scale * n * x ** (n - 1), jnp.sum(y_t * x**n)

    def fwd(n, x, scale):
        return power(n, x, scale), (x, scale)

    report = check_rule(ruled(power, fwd, bwd, nondiff_argnums=(0,)), 3, X, 2.0)
    assert relations(report) == {"x": "exact", "scale": "exact"}


# -- what autodiff cannot tell ---------------------------------------------------------------------


@alone
def test_finite_differences_stand_in_where_autodiff_fails():
    def solve(a):
        def step(state):
            return state[0] + 1, jnp.cos(a * state[1])

        return jax.lax.while_loop(lambda s: s[0] < 100, step, (0, 0.7 * jnp.ones_like(a)))[1]

    def rule(factor):
        def bwd(residuals, y_t):
            a, y = residuals
            sine = jnp.sin(a * y)
            return (-factor * y_t * y * sine / (1 + a * sine),)

        return ruled(solve, lambda a: (lambda y: (y, (a, y)))(solve(a)), bwd)

    a = jnp.array([0.25, 0.5, 0.75])
    report = check_rule(rule(1.0), a)
    assert "compared with finite differences" in report.findings[-1].message
    with pytest.raises(AssertionError, match="where finite differences give"):
        check_rule(rule(1.0001), a)


@alone
def test_nan_of_autodiff_and_kinks():
    def norm(x):
        return jnp.sqrt(jnp.sum(x * x))

    def rule(at_zero):
        def bwd(x, y_t):
            size = norm(x)
            return (jnp.where(size == 0, at_zero, y_t * x / jnp.where(size == 0, 1, size)),)

        return ruled(norm, lambda x: (norm(x), x), bwd)

    check_rule(rule(0.0), jnp.zeros(3))
    assert not check_rule(rule(100.0), jnp.zeros(3), raises=False).ok
    relu = elementwise(lambda x: jnp.maximum(x, 0), lambda x: (x >= 0).astype(x.dtype))
    check_rule(relu, jnp.array([-1.0, 0.0, 2.0]))
    steep = elementwise(lambda x: jnp.maximum(x, 0), lambda x: jnp.where(x == 0, 2.0, x > 0))
    assert not check_rule(steep, jnp.array([-1.0, 0.0, 2.0]), raises=False).ok


# -- claims ----------------------------------------------------------------------------------------


@alone
def test_claims_that_hold_and_claims_that_do_not():
    def function(x, w, scale):
        return x * w * scale

    def bwd(residuals, y_t):
        x, w, scale = residuals
        return y_t * w * scale, jnp.zeros_like(w), 0.9 * scale + 0.1 * jnp.max(jnp.abs(x))

    rule = ruled(function, lambda *args: (function(*args), args), bwd)
    arguments = X, X + 1, jnp.float32(2.0)
    report = check_rule(rule, *arguments, zero="w", state="scale")
    assert relations(report) == {"x": "exact", "w": "zero", "scale": "state"}

    def claims(**claimed: Any) -> list[str]:
        report = check_rule(rule, *arguments, raises=False, **claimed)
        return [each.message for each in report.errors]

    [stale] = claims(surrogate=("x", "w"), state="scale")
    assert "`x` is claimed to be a surrogate, but its gradient is the true one" in stale
    [x] = claims(zero=("x", "w"), state="scale")
    assert "the gradient of `x` is claimed to be zero, but is" in x
    [state] = claims(zero="w", state=("x", "scale"))
    assert "what comes back is its true gradient" in state
    [unknown] = claims(zero=("v", "w"), state="scale")
    assert "names `v`, which is nothing here" in unknown
    unclaimed = check_rule(rule, *arguments, exact=())
    notes = {each.leaf: each for each in unclaimed.findings if each.check == "claim"}
    assert "the true one; claim it `exact`" in notes["x"].message
    assert "zero, and the true one is not; claim it `zero`" in notes["w"].message
    assert "claim it `surrogate` if that is on purpose" in notes["scale"].message
    assert [notes[each].severity for each in ("x", "w", "scale")] == ["note", "warning", "warning"]
    assert (notes["w"].found, notes["w"].expected != "0") == ("0", True)


# -- the call itself -------------------------------------------------------------------------------


@pytest.mark.parametrize("enabled", [False, True])
def test_64_bit_floats_are_as_the_caller_has_them(enabled):
    with jax.enable_x64(enabled):
        report = check_rule(elementwise(jnp.sin, jnp.cos), jnp.ones(2) / 3)
        assert jax.config.jax_enable_x64 is enabled
    assert report.leaves[0].dtype == ("float64" if enabled else "float32")
    assert dict(report.skipped) == (
        {"precision": "the example is in double precision"} if enabled else {}
    )


@alone
def test_seeds_repeat_a_report_and_change_its_directions():
    rule = elementwise(jnp.sin, jnp.cos)
    first, again, other = (check_rule(rule, X[0], seed=seed) for seed in (7, 7, 8))
    assert first.leaves == again.leaves
    assert first.leaves[0].custom != other.leaves[0].custom
    assert (first.seed, other.seed) == (7, 8)


@alone
def test_tolerances_and_directions_that_are_asked_for():
    rule = elementwise(jnp.sin, lambda x: 1.001 * jnp.cos(x))
    check_rule(rule, X, rtol=1e-2)
    report = check_rule(rule, X, atol=1.0, rtol=0.0, directions=3)
    assert report.leaves[0].directions == 3 + X.size


def test_arguments_that_do_not_fit_or_have_no_gradient():
    rule = elementwise(jnp.sin, jnp.cos)
    with pytest.raises(ExampleError, match="do not fit"):
        check_rule(rule, X, X)
    with pytest.raises(ExampleError, match="nothing in the example can be differentiated"):
        check_rule(rule, jnp.arange(3))


@alone
def test_numbers_that_are_out_of_range():
    rule = elementwise(jnp.sin, jnp.cos)
    with pytest.raises(ValueError, match="0 directions are asked for; at least one is needed"):
        check_rule(rule, X, directions=0)
    with pytest.raises(ValueError, match="the seed is -1; it must not be negative"):
        check_rule(rule, X, seed=-1)


def test_one_direction_is_enough_for_every_check():
    rule = elementwise(jnp.sin, jnp.cos)
    report = check_rule(rule, jax.random.normal(KEY, (100,)), directions=1)
    assert (report.leaves[0].directions, "linear" in report.checks) == (1, True)


@alone
def test_what_jax_is_set_to_for_debugging():
    root = elementwise(jnp.sqrt, lambda x: 0.5 / jnp.sqrt(x))
    x = jnp.array([1e-30, 1.0, 4.0])
    with jax.disable_jit(), jax.debug_nans(True), jax.debug_infs(True):
        check_rule(root, x)
        assert jax.config.jax_disable_jit
        assert jax.config.jax_debug_nans


@alone
def test_python_numbers_among_the_outputs():
    def function(x):
        return jnp.sin(x), 0.0, x.shape[0], True

    rule = ruled(function, lambda x: (function(x), x), lambda x, y_t: (y_t[0] * jnp.cos(x),))
    check_rule(rule, X)
    check_rule(lambda x: rule(x)[:2], X)


def test_a_report_says_where_the_rule_stands(monkeypatch, tmp_path):
    def bwd(x, y_t):
        return (2 * jnp.cos(x) * y_t,)

    monkeypatch.chdir(Path(__file__).parent)
    line = bwd.__code__.co_firstlineno
    for each in (bwd, functools.partial(bwd), jax.tree_util.Partial(bwd), jax.jit(bwd)):
        place = place_of(verifying.ruled(ruled(jnp.sin, lambda x: (jnp.sin(x), x), each), (X,)))
        assert (place.name, place.filename, place.line) == ("sin", "test_check_rule.py", line)
    monkeypatch.chdir(tmp_path)
    assert place_of(verifying.ruled(lambda x: x, (X,))).filename == __file__
    plain = eval("lambda x: x")
    assert place_of(verifying.ruled(plain, (X,))).filename == ""


@alone
def test_every_single_wrong_component_of_a_linear_map_is_caught():
    draw = np.random.default_rng(0)
    matrix = draw.normal(size=(3, 4))
    values = jnp.asarray(draw.normal(size=4))

    for row, column in np.ndindex(*matrix.shape):
        wrong = matrix.copy()
        wrong[row, column] *= 1 + 1e-5

        def linear(x):
            return matrix.astype(x.dtype) @ x

        def backward(_, y_t, wrong=wrong):
            return (wrong.T.astype(y_t.dtype) @ y_t,)

        rule = ruled(linear, lambda x: (linear(x), None), backward)
        report = check_rule(rule, values, raises=False)
        [error] = report.errors
        assert error.leaf == "x"
        assert "1 of 4 components" in error.message
        assert f"[{column}]" in error.cause
