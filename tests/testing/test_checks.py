"""Each check, with a rule that fails it and no other, beside the right one."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import io_callback

from vjpgen.testing import RuleReport, check_rule, verifying

X = jnp.array([[0.5, -1.0, 0.25], [1.5, 0.125, -0.75]])
W = jnp.array([[0.5, -0.25], [1.0, 0.75], [-0.5, 0.125]])
ALL = (
    *("primal", "forward", "structure", "gradient", "linear", "repeat", "jit", "vmap", "scan"),
    *("checkpoint", "order2", "leak", "effects", "precision", "residuals"),
)


def layer(x, w):
    return jnp.tanh(x @ w)


def forward(x, w):
    y = layer(x, w)
    return y, (x, w, y)


def backward(residuals, y_t):
    x, w, y = residuals
    inner = y_t * (1 - y * y)
    return inner @ w.T, x.T @ inner


def ruled(bwd=backward, fwd=forward, function=layer, **options):
    found = jax.custom_vjp(function)
    found.defvjp(fwd, bwd, **options)
    return found


def changed(change):
    """Return the right backward rule with its tangents changed."""

    def bwd(residuals, y_t):
        return change(*backward(residuals, y_t), residuals, y_t)

    return bwd


def verified(function, *args: Any, **options: Any) -> RuleReport:
    return check_rule(function, *(args or (X, W)), raises=False, **options)


def failed(report: RuleReport) -> set[str]:
    assert report.status == ("failed" if report.errors else "verified")
    return {finding.check for finding in report.errors}


def told(report: RuleReport, check: str, severity: str = "error") -> list[Any]:
    found = [each for each in report.findings if (each.check, each.severity) == (check, severity)]
    assert found, report.findings
    return found


def test_a_right_rule_passes_every_check():
    report = verified(ruled())
    assert report.findings == ()
    assert report.checks == ALL
    assert report.skipped == ()
    assert [leaf.relation for leaf in report.leaves] == ["exact", "exact"]
    assert [leaf.path for leaf in report.leaves] == ["x", "w"]
    for leaf in report.leaves:
        assert leaf.error < leaf.tolerance < 1e-6
        assert leaf.directions == 8 + 4
        np.testing.assert_allclose(leaf.custom, leaf.reference, atol=1e-12)
    assert report.residual_bytes == layer(X, W).nbytes
    assert report.autodiff_bytes > 0
    assert RuleReport.from_data(report.as_data()) == report


def test_forward_that_differs_from_the_primal():
    report = verified(ruled(fwd=lambda x, w: (1.001 * layer(x, w), forward(x, w)[1])))
    assert failed(report) == {"forward"}
    [finding] = told(report, "forward")
    assert "output 0 differs from what the primal gives" in finding.message
    assert finding.cause == "the forward rule's output is 1.001 times the primal's"


def test_a_forward_rule_that_raises_ends_it():
    def fwd(x, w):
        raise ValueError("no")

    report = verified(ruled(fwd=fwd))
    assert failed(report) == {"forward"}
    assert "the forward rule raised ValueError: no (test_checks.py:" in report.errors[0].message
    assert report.checks == ("primal", "forward")
    assert dict(report.skipped)["gradient"] == "the check `forward` failed"


@pytest.mark.parametrize(
    ("bwd", "text"),
    [
        (changed(lambda x_t, w_t, *_: (x_t.T, w_t)), "float64[3,2]"),
        (changed(lambda x_t, w_t, *_: (x_t,)), "tuple"),
        (changed(lambda x_t, w_t, *_: {}["y"]), "raised KeyError: 'y'"),
        (changed(lambda x_t, w_t, *_: (x_t, w_t.astype(np.float16))), "float16[3, 2]"),
    ],
)
def test_tangents_of_a_wrong_structure(bwd, text):
    report = verified(ruled(bwd))
    assert failed(report) - {"gradient", "linear"} == {"structure"}  # half precision is not enough
    assert text in report.errors[0].message


@pytest.mark.parametrize(
    ("change", "leaf", "cause"),
    [
        (lambda x_t, w_t, *_: (x_t, 1.001 * w_t), "w", "a factor of 1.001 too much"),
        (lambda x_t, w_t, *_: (x_t.at[1, 2].multiply(1.0001), w_t), "x", "1 of 6 components"),
        (lambda x_t, w_t, *_: (None, w_t), "x", "zero where it is not"),
        (lambda x_t, w_t, r, y_t: (y_t @ r[1].T, w_t), "x", ""),
    ],
)
def test_a_wrong_gradient(change, leaf, cause):
    report = verified(ruled(changed(change)))
    assert failed(report) == {"gradient"}
    [finding] = told(report, "gradient")
    assert finding.leaf == leaf
    assert cause in finding.cause
    assert f"the gradient of `{leaf}` is wrong" in finding.message
    assert "where the true gradient is" in finding.message


def test_a_rule_that_is_not_linear_where_it_was_not_seen():
    def bwd(x, y_t):
        return (jnp.clip(y_t, -100, 100) * jnp.cos(x),)

    report = verified(ruled(bwd, lambda x: (jnp.sin(x), x), jnp.sin), X)
    assert failed(report) == {"linear"}
    assert "1024 times the output tangent does not give 1024 times" in report.errors[0].message


def test_an_output_whose_tangent_is_ignored():
    def pair(x):
        return jnp.sin(x), 2 * x

    report = verified(ruled(lambda x, t: (t[0] * jnp.cos(x),), lambda x: (pair(x), x), pair), X)
    assert "the tangent of output 1 is ignored" in told(report, "linear")[0].message
    surrogate = verified(
        ruled(lambda x, t: (t[0] * jnp.cos(x),), lambda x: (pair(x), x), pair),
        X,
        exact=(),
        surrogate=True,
    )
    assert failed(surrogate) == set()
    assert "the tangent of output 1 is ignored" in told(surrogate, "linear", "warning")[0].message


def test_a_symbolic_zero_that_is_taken_for_another_rule():
    def fwd(x, y):
        return x.value * y.value, (x.value, y.value, y.perturbed)

    def bwd(residuals, t):
        x, y, perturbed = residuals
        return t * y * (1 if perturbed else 2), t * x

    report = verified(ruled(bwd, fwd, jnp.multiply, symbolic_zeros=True), X, 2 * X)
    assert failed(report) == {"linear"}
    assert "where it is differentiated alone" in report.errors[0].message


def test_a_rule_that_is_not_the_same_twice():
    draw = np.random.default_rng(0)
    bwd = changed(lambda x_t, w_t, *_: (x_t, w_t * (1 + 1e-4 * draw.random())))
    report = verified(ruled(bwd), exact="x", surrogate="w")
    assert failed(report) == {"repeat"}
    assert "when everything is run again" in report.errors[0].message
    assert "random number" in report.errors[0].cause
    assert dict(report.skipped)["jit"] == "the rule does not do the same whenever it is run"


def test_a_stale_residual(monkeypatch):
    checks = [each for each in verifying._CHECKS if each[0] != "leak"]  # which it is, too
    monkeypatch.setattr(verifying, "_CHECKS", checks)
    kept: dict[str, Any] = {}

    def fwd(x, w):
        kept["residuals"] = forward(x, w)[1]
        return layer(x, w), None

    report = verified(ruled(lambda _, y_t: backward(kept["residuals"], y_t), fwd))
    assert failed(report) == {"repeat"}
    [first, _] = told(report, "repeat")
    assert "when another run comes between the two passes" in first.message


def test_a_callback_that_is_wrong_under_vmap():
    def host(x, y_t):
        return np.asarray(y_t * x.sum() + (y_t * x).sum())

    def bwd(x, y_t):
        like = jax.ShapeDtypeStruct(x.shape, x.dtype)
        return (jax.pure_callback(host, like, x, y_t, vmap_method="expand_dims"),)

    report = verified(ruled(bwd, lambda x: (x * x.sum(), x), lambda x: x * x.sum()), X[0])
    assert failed(report) == {"vmap"}
    assert "under `jax.vmap`" in report.errors[0].message
    assert "cannot be differentiated" in dict(report.skipped)["order2"]


def test_a_rule_that_needs_known_values():
    def bwd(residuals, y_t):
        return (y_t * jnp.cos(residuals) if float(y_t) else y_t,)

    report = verified(ruled(bwd, lambda x: (jnp.sin(x), x), jnp.sin), 0.5)
    assert failed(report) == {"jit"}
    assert "the rule cannot be compiled: ConcretizationTypeError" in report.errors[0].message


def test_second_derivatives_that_are_cut_off():
    report = verified(ruled(changed(lambda x_t, w_t, *_: (jax.lax.stop_gradient(x_t), w_t))))
    assert failed(report) == {"order2"}
    assert "the second derivative with respect to `x` is wrong" in report.errors[0].message


KEPT: list[Any] = []
COUNTED = {"runs": 0}
CACHE: dict[Any, Any] = {}


def test_a_leak():
    report = verified(ruled(changed(lambda x_t, w_t, *_: KEPT.append(x_t) or (x_t, w_t))))
    assert failed(report) == {"leak", "effects"}
    assert "leaves a tracer behind" in told(report, "leak")[0].message


def test_a_side_effect_of_the_backward_rule():
    def count(x_t, w_t, *_):
        COUNTED["runs"] += 1
        return x_t, w_t

    report = verified(ruled(changed(count)))
    assert failed(report) == {"effects"}
    assert report.errors[0].message == "the backward rule changes the global `COUNTED`"


def test_a_cache_is_a_side_effect_that_does_no_harm():
    def cached(x_t, w_t, *_):
        CACHE[object()] = 1
        return x_t, w_t

    report = verified(ruled(changed(cached)))
    assert failed(report) == set()
    assert "CACHE" in told(report, "effects", "warning")[0].message


@pytest.mark.parametrize("callback", ["io", "debug"])
def test_a_callback_is_a_side_effect_unless_it_only_prints(callback):
    seen: list[Any] = []
    call = {
        "io": lambda t: io_callback(seen.append, None, t),
        "debug": lambda t: jax.debug.callback(seen.append, t),
    }

    def calls(x_t, w_t, *_):
        call[callback](jax.lax.stop_gradient(x_t))
        return x_t, w_t

    report = verified(ruled(changed(calls)))
    assert failed(report) == ({"effects"} if callback == "io" else set())
    severity = "error" if callback == "io" else "warning"
    assert "has effects that the source has not" in told(report, "effects", severity)[0].message


def test_a_rule_that_is_wrong_in_one_precision_alone():
    def narrow(x_t, w_t, *_):
        return x_t, w_t * (2 if w_t.dtype == jnp.float32 else 1)

    report = verified(ruled(changed(narrow)))
    assert failed(report) == {"precision"}
    assert "in float32 the gradient of `w` is wrong" in report.errors[0].message
    assert "a factor of 2" in report.errors[0].cause


@pytest.mark.parametrize("factor", [1.0, 1.01])
def test_a_rule_that_names_a_dtype_is_verified_in_it(factor):
    single = changed(lambda x_t, w_t, *_: (x_t.astype(jnp.float32), factor * w_t.astype("f4")))
    report = verified(ruled(single))
    assert failed(report) == ({"gradient"} if factor > 1 else set())
    (told,) = [each for each in report.findings if each.severity == "warning"]
    assert told.check == "structure"
    assert "own precision alone: a tangent is float32" in told.message
    assert "precision" in dict(report.skipped)


def test_the_primal_is_compared_with_the_source():
    report = verifying.verify(ruled(), (X, W), plain=lambda x, w: jnp.tanh(x @ w) * 1.001)
    assert "primal" in failed(report)
    assert "output 0 differs from what the source gives" in told(report, "primal")[0].message
