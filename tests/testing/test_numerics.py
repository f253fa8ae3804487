"""Directions, tolerances, comparisons and finite differences."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vjpgen.testing.comparing import compare, samples
from vjpgen.testing.differences import pairing, parts, slope
from vjpgen.testing.directions import cotangents, direction, eighths, generator
from vjpgen.testing.tolerances import Tolerance, asked_for, coarsest, epsilon, tolerance_of

EXACT = Tolerance(0.0, 0.0)


def test_directions_are_short_decimals_and_repeat_by_seed():
    drawn = eighths(generator(3, 1), (1000,))
    assert np.all(drawn * 8 == np.round(drawn * 8))
    assert np.all(drawn != 0)
    assert np.abs(drawn).max() == 2
    assert len(np.unique(drawn)) == 32
    np.testing.assert_array_equal(drawn, eighths(generator(3, 1), (1000,)))
    assert not np.array_equal(drawn, eighths(generator(4, 1), (1000,)))
    assert not np.array_equal(drawn, eighths(generator(3, 2), (1000,)))


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32, jnp.complex64])
def test_a_direction_has_the_dtype_and_loses_nothing_in_it(dtype):
    found = direction(generator(0), jnp.zeros((4, 3), dtype))
    assert found.dtype == dtype
    assert found.shape == (4, 3)
    exact = np.asarray(found, np.complex128 if dtype == jnp.complex64 else np.float64)
    assert np.all(exact * 8 == np.round(exact * 8))


def test_output_directions_of_small_outputs_contain_every_axis():
    outputs = [jnp.zeros(2), jnp.zeros((), jnp.complex64)]
    found = cotangents(outputs, seed=0, count=3, inputs=5)
    axes = [np.concatenate([np.ravel(each) for each in pair]) for pair in found[3:]]
    expected = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1j]]
    np.testing.assert_array_equal(axes, np.array(expected))
    assert len(cotangents([jnp.zeros(1000)], seed=0, count=3, inputs=5)) == 3
    assert len(cotangents([jnp.zeros(10)], seed=0, count=3, inputs=10**6)) == 3


@pytest.mark.parametrize(
    ("dtype", "least", "most"),
    [
        (np.float64, 1e-9, 1e-6),
        (np.complex128, 1e-9, 1e-6),
        (np.float32, 1e-6, 1e-3),
        (np.complex64, 1e-6, 1e-3),
        (np.float16, 1e-3, 0.05),
        (jnp.bfloat16, 1e-2, 0.1),
        (jnp.float8_e4m3fn, 0.1, 0.3),
    ],
)
def test_tolerances_fit_the_dtype(dtype, least, most):
    found = tolerance_of(dtype)
    assert least < found.relative < most
    assert 0 < found.floor <= found.relative


def test_what_a_user_asks_for_replaces_what_fits():
    fitting = Tolerance(1e-7, 1e-11, 1e-12)
    assert asked_for(None, None, fitting) == fitting
    assert asked_for(1e-2, None, fitting) == Tolerance(1e-2, 1e-2, 1e-12)
    assert asked_for(None, 0.5, fitting) == Tolerance(1e-7, 1e-11, 0.5)


def test_the_coarsest_dtype_is_found_in_inner_functions():
    def inner(carry, x):
        return carry, (x.astype(jnp.bfloat16) * 2).astype(jnp.float32)

    def function(x):
        return jax.jit(lambda y: jax.lax.scan(inner, 0, y)[1])(x) + 1

    jaxpr = jax.make_jaxpr(function)(jnp.ones(3))
    assert coarsest([jaxpr], np.float32) == jnp.bfloat16
    assert coarsest([jax.make_jaxpr(jnp.sin)(jnp.ones(3))], np.float32) == np.float32
    assert epsilon(jnp.bfloat16) > epsilon(np.float16) > epsilon(np.complex64)


def test_a_comparison_sees_one_wrong_component_among_many():
    reference = np.random.default_rng(0).normal(size=(3, 50, 40))
    custom = reference.copy()
    custom[1, 7, 9] *= 1 + 1e-5
    found = compare(custom, reference, tolerance_of(np.float64))
    assert not found.ok
    assert found.where == (1, 7, 9)
    assert found.wrong == 1
    assert found.found == custom[1, 7, 9]
    assert found.expected == reference[1, 7, 9]


def test_a_tiny_component_beside_large_ones_is_compared_by_its_own_size():
    reference = np.array([[1e-3, 1e3]])
    custom = np.array([[2e-3, 1e3]])
    assert not compare(custom, reference, tolerance_of(np.float64)).ok


def test_what_is_not_finite_must_be_so_in_both():
    with_nan = np.array([[1.0, np.nan, np.inf]])
    assert compare(with_nan, with_nan, EXACT).ok
    assert not compare(with_nan, np.array([[1.0, np.nan, -np.inf]]), Tolerance(1, 1)).ok
    assert not compare(with_nan, np.ones((1, 3)), Tolerance(1, 1)).ok
    assert not compare(np.ones((1, 3)), with_nan, Tolerance(1, 1)).ok
    assert compare(np.zeros((2, 0)), np.zeros((2, 0)), EXACT).ok


def test_samples_contain_the_worst_components():
    reference = np.zeros((2, 1000))
    custom = reference.copy()
    custom[1, 500] = 3.0
    ours, theirs = samples(custom, reference, 0)
    assert len(ours) == len(theirs) == 400
    assert 3.0 in ours
    assert samples(custom, reference, 0) == (ours, theirs)
    assert len(samples(np.ones((2, 3)) * 1j, np.ones((2, 3)) * 1j, 0)[0]) == 12


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_finite_differences_are_accurate_and_know_how_accurate(scale):
    functions = [np.sin, np.exp, lambda x: x**3, lambda x: 1 / (2 + x), lambda x: 0 * x + 1]
    slopes = [1.0, 1.0, 0.0, -0.25, 0.0]
    found = slope(lambda t: scale * np.array([f(t) for f in functions]), epsilon(np.float64))
    np.testing.assert_allclose(found.value / scale, slopes, atol=1e-9)
    assert np.all(np.abs(found.value / scale - slopes) <= found.error / scale)
    assert np.all(found.error / scale < 1e-7)
    assert not found.kink.any()


def test_kinks_are_recognised_by_their_two_sides():
    def function(t):
        return np.array([abs(t), np.maximum(t, 0) * 3, t * abs(t), abs(t - 0.01), t])

    found = slope(function, epsilon(np.float64))
    assert found.kink.tolist() == [True, True, False, False, False]
    np.testing.assert_allclose(found.left[:2], [-1, 0])
    np.testing.assert_allclose(found.right[:2], [1, 3])
    np.testing.assert_allclose(found.value[2:], [0, -1, 1], atol=1e-4)


def test_where_a_function_ends_smaller_steps_are_taken():
    with np.errstate(invalid="ignore"):
        found = slope(lambda t: np.log(np.array([1e-3]) + t), epsilon(np.float64))
    np.testing.assert_allclose(found.value, 1e3, rtol=1e-3)


@pytest.mark.parametrize("least", [1e-4, 1e-5])
def test_steps_that_are_all_too_long_are_not_trusted(least):
    """An ill-conditioned solve has poles nearby: what differences cannot tell they do not tell."""
    for seed in range(60):
        rng = np.random.default_rng(seed)
        left, right = (np.linalg.qr(rng.normal(size=(4, 4)))[0] for _ in range(2))
        a, b = left @ np.diag([1, 0.1, 1e-3, least]) @ right, rng.normal(size=4)
        line = rng.normal(size=(4, 4)) * np.abs(a)
        found = slope(lambda t, a=a, b=b, e=line: np.linalg.solve(a + t * e, b), 2.2e-16)
        expected = -np.linalg.solve(a, line @ np.linalg.solve(a, b))
        told = found.error <= 1e-2 * np.max(np.abs(found.value))
        allowed = 10 * found.error + 1e-6 * np.max(np.abs(expected))
        assert np.all(~told | (np.abs(found.value - expected) <= allowed)), seed


def test_complex_numbers_are_paired_as_jax_pairs_them():
    z, w = jnp.array([1 + 2j, 3 - 1j]), jnp.array([0.5 - 1j, 2j])
    expected = jnp.real(jnp.sum(z * w))
    np.testing.assert_allclose(pairing([w]) @ parts([z]), expected, rtol=1e-6)


def test_a_bend_sharper_than_the_steps_is_no_kink():
    """Neither side has settled: what differences cannot tell they do not tell."""
    found = slope(lambda t: np.array([np.tanh(1e6 * t + 1), np.sign(t) * abs(t) ** 0.5]), 2.2e-16)
    assert not found.kink.any()
    assert np.all(found.error > 1e-2 * np.abs(found.value))
