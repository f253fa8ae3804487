"""Tracing: caches, leaks, checks, exports, threads; nothing is traced twice or kept."""

from __future__ import annotations

import gc
import threading

import jax
import jax.numpy as jnp
import pytest
from jax import export

from tests.runtime.compare import assert_same
from vjpgen.runtime.splitting import Split

X = jax.random.normal(jax.random.key(1), (2, 3))
RNGS = {"noise": jax.random.key(2)}
PARAMS = {"kernel": jax.random.normal(jax.random.key(3), (3, 3))}
STATS = {"mean": jnp.array([0.1, -0.2, 0.3])}
PAIRS = [("Exact", "Exact"), ("Surrogate", "ByHand")]


def _loss(module):
    def loss(params, stats, x):
        variables = {"params": params, "stats": stats}
        y, new = module.apply(variables, x, rngs=RNGS, mutable=["stats"])
        return (y**2).sum() + (new["stats"]["mean"] ** 2).sum(), new["stats"]

    return loss


def _grad(module):
    return jax.value_and_grad(_loss(module), (0, 1, 2), has_aux=True)


@pytest.fixture(scope="module", params=PAIRS, ids=[rule for rule, _ in PAIRS])
def case(request, pair):
    """Give a module with a rule, and what the module without vjpgen gives."""
    source = pair("transforms")
    rule, oracle = request.param
    expected = jax.jit(_grad(getattr(source.plain, oracle)()))(PARAMS, STATS, X)
    return getattr(source.lifted, rule)(), expected


def _check(actual, case):
    assert_same(actual, case[1], rtol=1e-5)


def test_no_tracer_leaks(case):
    with jax.checking_leaks():
        _check(jax.jit(_grad(case[0]))(PARAMS, STATS, X), case)
        _check(_grad(case[0])(PARAMS, STATS, X), case)


def test_without_jit(case):
    with jax.disable_jit():
        _check(jax.jit(_grad(case[0]))(PARAMS, STATS, X), case)


def test_ahead_of_time(case):
    lowered = jax.jit(_grad(case[0])).lower(PARAMS, STATS, X)
    _check(lowered.compile()(PARAMS, STATS, X), case)


def test_shapes_and_jaxprs(case):
    shapes = jax.eval_shape(_grad(case[0]), PARAMS, STATS, X)
    assert jax.tree.map(lambda leaf: leaf.shape, shapes) == jax.tree.map(jnp.shape, case[1])
    closed = jax.make_jaxpr(_grad(case[0]))(PARAMS, STATS, X)
    leaves = jax.tree.leaves((PARAMS, STATS, X))
    found = jax.core.eval_jaxpr(closed.jaxpr, closed.consts, *leaves)
    _check(jax.tree.unflatten(jax.tree.structure(case[1]), found), case)


def test_export(case):
    """An exported function has its rule's gradient, and so has one whose gradient is exported."""
    loss = export.export(jax.jit(_loss(case[0])))(PARAMS, STATS, X)
    _check(jax.value_and_grad(loss.call, (0, 1, 2), has_aux=True)(PARAMS, STATS, X), case)
    _check(export.export(jax.jit(_grad(case[0])))(PARAMS, STATS, X).call(PARAMS, STATS, X), case)


def test_export_through_bytes(case):
    """What is written and read again has its rule's gradient: it is written along."""
    data = export.export(jax.jit(_loss(case[0])))(PARAMS, STATS, X).serialize(vjp_order=1)
    loss = export.deserialize(data).call
    _check(jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))(PARAMS, STATS, X), case)


def test_export_for_any_batch(case):
    rows = jax.ShapeDtypeStruct(export.symbolic_shape("rows, 3"), X.dtype)
    step = export.export(jax.jit(_grad(case[0])))(PARAMS, STATS, rows)
    _check(step.call(PARAMS, STATS, X), case)


def test_donated_buffers(case):
    def step(params, stats, x):
        (_, stats), (params_t, _, _) = _grad(case[0])(params, stats, x)
        return jax.tree.map(lambda p, t: p - 0.1 * t, params, params_t), stats

    step = jax.jit(step, donate_argnums=(0, 1))
    params, stats = jax.tree.map(jnp.copy, (PARAMS, STATS))
    kept = params["kernel"]
    for _ in range(2):
        params, stats = step(params, stats, X)
    assert kept.is_deleted()
    assert not jnp.isnan(params["kernel"]).any()


def test_a_step_is_traced_once(case):
    traces = []

    def step(*operands):
        traces.append(None)
        return _grad(case[0])(*operands)

    step = jax.jit(step)
    for scale in (1.0, 2.0, 3.0):
        step(PARAMS, {"mean": scale * STATS["mean"]}, scale * X)
    assert len(traces) == 1


def test_calls_leave_nothing_behind(case):
    """Neither traces nor arrays pile up, whether the calls are jitted or not."""

    def kept():
        gc.collect()
        return sum(isinstance(thing, Split) for thing in gc.get_objects())

    step, eager = jax.jit(_grad(case[0])), _grad(case[0])
    counts = []
    for _ in range(4):
        step(PARAMS, STATS, X)
        eager(PARAMS, STATS, X)
        counts.append(kept())
    assert counts[1] == counts[-1]


def test_threads(pair):
    """Traces that run at once do not see each other's rules."""
    source = pair("transforms")
    expected, found = {}, {}
    start = threading.Barrier(4)

    def run(number, rule):
        start.wait()
        found[number] = jax.jit(_grad(getattr(source.lifted, rule)()))(PARAMS, STATS, X)

    threads = []
    for number in range(4):
        rule, oracle = PAIRS[number % 2]
        expected[number] = jax.jit(_grad(getattr(source.plain, oracle)()))(PARAMS, STATS, X)
        threads.append(threading.Thread(target=run, args=(number, rule)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_same({n: found[n] for n in expected}, expected, rtol=1e-5)


def test_nans_are_found_in_a_rule(pair):
    source = pair("transformed").lifted
    with jax.debug_nans(True):
        assert_same(jax.grad(source.root)(4.0), jnp.float32(0.25))
        with pytest.raises(FloatingPointError, match="nan"):
            jax.grad(lambda x: source.scaled(jnp.nan, jnp.sin)(x))(1.0)


def test_compile_time_evaluation(pair):
    source = pair("transformed").lifted

    def around(x):
        with jax.ensure_compile_time_eval():
            factor = float(jax.grad(source.tripled)(2.0))
        return source.tripled(factor * x).sum()

    assert_same(jax.jit(jax.grad(around))(X), jnp.full_like(X, 49))
    assert_same(jax.jit(source.tripled)(X), 3 * X)


def test_scopes_and_closures(pair):
    source = pair("transformed").lifted

    def outer(x, kernel):
        function, captured = jax.closure_convert(lambda y: source.named(y, kernel), x)
        with jax.named_scope("outer"):
            return jax.grad(lambda x: function(x, *captured).sum())(x)

    kernel = PARAMS["kernel"]
    expected = jax.grad(lambda x: source.named(x, kernel).sum())(X)
    assert_same(jax.jit(outer)(X, kernel), expected, rtol=1e-6)
    assert "outer" in jax.jit(outer).lower(X, kernel).as_text(debug_info=True)


def test_rules_made_anew_share_what_is_traced(pair):
    """What a forward rule calls is not traced again for each new rule of one place."""
    source = pair("transformed").lifted
    traces = []

    @jax.jit
    def inner(x):
        traces.append(None)
        return jnp.sin(x)

    for scale in (1.0, 2.0, 3.0):
        jax.grad(lambda x, scale=scale: source.scaled(scale, inner)(x).sum())(X)
    known = len(traces)
    for scale in (4.0, 5.0):
        jax.grad(lambda x, scale=scale: source.scaled(scale, inner)(x).sum())(X)
    assert len(traces) == known
    grad = jax.grad(lambda x: source.make_fresh(x).sum())
    assert_same(grad(X), jnp.full_like(X, X.sum()), rtol=1e-6)
