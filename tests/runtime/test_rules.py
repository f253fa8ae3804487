"""What rules do, each beside a reference written by hand."""

from __future__ import annotations

import os
import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vjpgen
from tests.runtime.compare import assert_same

X = jax.random.normal(jax.random.key(1), (4, 3))
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def rules(pair):
    return pair("rules")


def total(y):
    return sum(leaf.sum() for leaf in jax.tree.leaves(y))


def gradients(module, variables, x=X, wrap=lambda f: f, **options):
    return wrap(jax.grad(lambda v, x: total(module.apply(v, x, **options)), (0, 1)))(variables, x)


def both(rules, name, **fields):
    plain, lifted = getattr(rules.plain, name)(**fields), getattr(rules.lifted, name)(**fields)
    variables = plain.init(KEY, X)
    assert_same(lifted.init(KEY, X), variables)
    assert_same(lifted.apply(variables, X), plain.apply(variables, X))
    return plain, lifted, variables


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_sign(rules, wrap):
    plain, lifted, variables = both(rules, "Sign")
    params, x_t = gradients(plain, variables, wrap=wrap)
    assert_same(gradients(lifted, variables, wrap=wrap), (jax.tree.map(jnp.sign, params), x_t))


def test_an_expression_as_rule(rules):
    plain, lifted, variables = both(rules, "Expression")
    expected = jax.tree.map(lambda t: 3 * t, gradients(plain, variables))
    assert_same(gradients(lifted, variables), expected, rtol=1e-6)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_rules_that_are_methods(rules, wrap):
    plain, lifted, variables = both(rules, "Methods")
    params, x_t = gradients(plain, variables, wrap=wrap)
    expected = jax.tree.map(lambda t: 5 * t, params), x_t
    assert_same(gradients(lifted, variables, wrap=wrap), expected, rtol=1e-5)


def test_static_rules_of_a_class(rules):
    lifted = rules.lifted.Static()
    assert_same(jax.grad(lambda x: lifted.apply({}, x).sum())(X), 7 * jnp.cos(X), rtol=1e-6)
    double = rules.lifted.Holder.double
    assert double(3.0) == 6.0
    assert jax.grad(double)(3.0) == 50.0


def _kernel_twice(rules, method):
    plain, lifted = rules.plain.KernelTwice(), rules.lifted.KernelTwice()
    variables = plain.init(KEY, X)
    run = lambda m: gradients(m, variables, method=method)  # noqa: E731
    params, x_t = run(plain)
    kernel, bias = params["params"]["dense"]["kernel"], params["params"]["dense"]["bias"]
    return lambda: run(lifted), 2 * kernel, bias, x_t


@pytest.mark.parametrize("method", ["strict", "error"])
def test_a_missing_leaf_is_an_error(rules, method):
    run, _, _, _ = _kernel_twice(rules, method)
    with pytest.raises(vjpgen.TangentError) as caught:
        run()
    text = str(caught.value)
    assert f"KernelTwice.{method}" in text
    assert re.search(r"rules\.py:\d+", text)
    assert "mdl: params.bias: expected float32[3], but it is missing" in text
    assert "kernel" not in text
    assert "PyTreeDef" not in text


@pytest.mark.parametrize("method", ["zero", "autodiff"])
def test_a_missing_leaf_is_filled_in(rules, method):
    run, kernel, bias, x_t = _kernel_twice(rules, method)
    bias = bias if method == "autodiff" else jnp.zeros_like(bias)
    assert_same(run(), ({"params": {"dense": {"kernel": kernel, "bias": bias}}}, x_t), rtol=1e-6)


def test_captured_values(rules):
    """A captured value that is differentiated has no slot: the four policies."""
    plain = rules.plain.Captured()
    variables = plain.init(KEY, X)
    expected, x_t = gradients(plain, variables)
    no_gain = {"params": {**expected["params"], "gain": jnp.zeros(())}}
    # the offset that was captured depends on x; without it x has the tangent of the dense layer
    dense = 2 * jnp.ones((4, 3)) @ variables["params"]["Dense_0"]["kernel"].T

    def run(missing, wrap=lambda f: f):
        return gradients(rules.lifted.Captured(missing=missing), variables, wrap=wrap)

    for wrap in (lambda f: f, jax.jit):
        assert_same(run("autodiff", wrap), (expected, x_t), rtol=1e-5)
        assert_same(run("zero", wrap), (no_gain, dense), rtol=1e-5)
        with pytest.warns(vjpgen.DroppedTangentWarning, match=r"'gain'.*'table\.offset'"):
            assert_same(run("strict", wrap), (no_gain, dense), rtol=1e-5)
        with pytest.raises(vjpgen.TangentError, match="captured value 'gain'"):
            run("error", wrap)


def test_no_alarm_where_nothing_is_differentiated(rules):
    lifted = rules.lifted.Captured()
    variables = lifted.init(KEY, X)
    fixed = variables["params"]["gain"]

    def loss(dense):
        return lifted.apply({"params": {"gain": fixed, "Dense_0": dense}}, X).sum()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # jax before 0.11 has no symbolic zeros in the remat of its new rule machinery
        remat = jax.__version_info__ >= (0, 11) or os.environ.get("JAX_CUSTOM_VJP3", "0") in (
            "",
            "0",
        )
        for wrap in (lambda f: f, jax.jit, *([jax.checkpoint] if remat else [])):
            jax.grad(wrap(loss))(variables["params"]["Dense_0"])
        lifted.apply(variables, X)
        jax.jit(lifted.apply)(variables, X)


def test_captured_modules(rules):
    plain, lifted, variables = both(rules, "CapturedModule")
    expected = gradients(plain, variables)
    params, x_t = gradients(lifted, variables)
    assert_same(params, expected[0], rtol=1e-6)
    kernels = [variables["params"][f"Dense_{n}"]["kernel"] for n in range(2)]
    ones = jnp.ones((4, 3))
    # Dense_0 is the captured one (made first), whose rule is ten times autodiff for x
    assert_same(x_t, 10 * ones @ kernels[0].T + 2 * ones @ kernels[1].T, rtol=1e-5)


def _updates(rules, method):
    plain, lifted = rules.plain.Updates(), rules.lifted.Updates()
    variables = plain.init(KEY, X)

    def derive(module):
        def loss(params, x):
            y, updates = module.apply(
                {**variables, "params": params}, x, method=method, mutable=["memory"]
            )
            return y + (updates["memory"]["last"] ** 2).sum()

        return jax.grad(loss, (0, 1))(variables["params"], X)

    return derive(plain), lambda: derive(lifted)


def test_tangents_of_updated_variables(rules):
    """A loss on an updated variable: silently zero in Flax, said here, right with autodiff."""
    expected, run = _updates(rules, "autodiff")
    assert_same(run(), expected, rtol=1e-6)
    _, run = _updates(rules, "strict")
    with pytest.warns(vjpgen.DroppedTangentWarning, match=r"memory\.last"):
        params, x_t = run()
    assert_same(params, jax.tree.map(jnp.zeros_like, params))
    assert_same(x_t, jnp.ones_like(X))
    _, run = _updates(rules, "error")
    with pytest.raises(vjpgen.TangentError, match=r"memory\.last"):
        run()


@pytest.mark.parametrize("name", ["Adapters", "Every"])
def test_grad_vars_of_several_collections(rules, name):
    plain, lifted, variables = both(rules, name)
    assert_same(gradients(lifted, variables), gradients(plain, variables), rtol=1e-6)


def test_a_collection_outside_grad_vars_is_named(pair):
    lifted = pair("layers").lifted.Stateful()
    variables = lifted.init({"params": KEY, "dropout": KEY}, X)

    def loss(statistics):
        return lifted.apply({**variables, "batch_stats": statistics}, X).sum()

    with pytest.warns(vjpgen.DroppedTangentWarning, match=r"batch_stats\.BatchNorm_0\.mean"):
        found = jax.grad(loss)(variables["batch_stats"])
    assert_same(found, jax.tree.map(jnp.zeros_like, found))


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_trees_of_modules(rules, wrap):
    plain, lifted, variables = both(rules, "Two")
    expected = gradients(plain, variables, wrap=wrap)
    assert_same(gradients(lifted, variables, wrap=wrap), expected, rtol=1e-5)


def test_static_arguments(rules):
    plain, lifted = rules.plain, rules.lifted
    for wrap in (lambda f: f, jax.jit):
        for call in (
            lambda m, x: m.trig(x, m.Mode.SIN),
            lambda m, x: m.trig(x, mode=m.Mode.COS, flag=True, name="other"),
            lambda m, x: m.trig(x, m.Mode.SIN, dtype=jnp.float32, op=jnp.sin, times=1),
        ):
            expected = jax.grad(lambda x, c=call: c(plain, x).sum())(X)
            found = wrap(jax.grad(lambda x, c=call: c(lifted, x).sum()))(X)
            assert_same(found, 100 * expected, rtol=1e-5)
    assert lifted.trig(X, lifted.Mode.SIN, times=3).shape == X.shape


def test_nondiff_arguments(rules):
    """By number and by name, unhashable, with arrays inside, traced ones too."""
    power = rules.lifted.power
    config = {"gain": jnp.float32(3.0), "list": [1]}
    expected = 1000 * 3 * 2 * X
    assert_same(jax.grad(lambda x: power(x, 2, config).sum())(X), expected, rtol=1e-6)

    @jax.jit
    def step(x, gain):
        return jax.grad(lambda x: power(x, 2, config={"gain": gain}).sum())(x)

    assert_same(step(X, jnp.float32(3.0)), expected, rtol=1e-6)
    with pytest.warns(vjpgen.DroppedTangentWarning, match=r"config\.gain"):
        jax.grad(lambda gain: power(X, 2, {"gain": gain}).sum())(3.0)


def test_integers_and_keys(rules):
    table = jnp.ones((5, 2))
    for key in (jax.random.key(0), jax.random.PRNGKey(0)):
        f = lambda t, i, k: rules.lifted.gather(t, i, k).sum()  # noqa: E731
        found = jax.jit(jax.grad(f))(table, jnp.array([1, 1, 3]), key)
        assert_same(found, 9 * jnp.zeros((5, 2)).at[jnp.array([1, 1, 3])].add(1.0))
    grads = jax.grad(f, argnums=(0, 1), allow_int=True)(table, jnp.array([1]), key)
    assert grads[1].dtype == jax.dtypes.float0


def test_symbolic_zeros(rules):
    found = jax.grad(lambda x: rules.lifted.symbolic(x, 3.0)[0])(2.0)
    assert found == 3.0


def test_optimize_remat(rules):
    f = jax.checkpoint(lambda x: rules.lifted.opaque(x).sum())
    assert_same(jax.jit(jax.grad(f))(X), 2 * jnp.cos(X), rtol=1e-6)


def test_a_function_made_by_a_function(rules):
    """The factory's argument is a tracer of the caller."""
    x = jnp.arange(3.0)

    @jax.jit
    def step(scale, x):
        return jax.grad(rules.lifted.factory(scale))(x)

    assert_same(step(jnp.float32(4.0), x), jnp.full(3, 8.0))
    with pytest.warns(vjpgen.DroppedTangentWarning, match="captured value 'scale'"):
        assert jax.grad(lambda s: rules.lifted.factory(s)(x))(4.0) == 0


def test_inside_its_rule_the_function_is_its_primal(rules):
    jitted = jax.jit(rules.lifted.loop)
    assert_same(jax.grad(lambda x: jitted(x).sum())(X), 4 * jnp.cos(X), rtol=1e-6)
    assert_same(jax.grad(lambda x: rules.lifted.loop(x).sum())(X), 4 * jnp.cos(X), rtol=1e-6)
    assert_same(jitted(X), jnp.sin(X), rtol=1e-6)


def test_primal(rules):
    f = vjpgen.primal(rules.lifted.loop)
    assert_same(jax.grad(lambda x: f(x).sum())(X), jnp.cos(X))
    assert vjpgen.primal(rules.plain.loop) is rules.plain.loop
    lifted = rules.lifted.Sign()
    variables = lifted.init(KEY, X)

    def true(variables, x):
        return vjpgen.primal(lifted.bind(variables).__call__)(x).sum()

    expected = gradients(rules.plain.Sign(), variables)
    assert_same(jax.grad(true, (0, 1))(variables, X), expected)


MESSAGES = {
    "tuple": ["must return a tuple of 2 tangents, one for each of: mdl, x", "a dict with params"],
    "length": ["must return a tuple of 2 tangents", "a tuple of 3"],
    "leaf": ["mdl: params.weight: unknown; expected bias, kernel"],
    "shape": [
        "mdl: params.kernel: expected float32[3,4], not float32[4,3]",
        "x: expected float32[4,3], not float32[]",
    ],
    "dtype": ["x: expected float32[4,3], not bfloat16[4,3]"],
    "structure": ["x: expected float32[4,3], not a tuple of 1"],
    "array": ["mdl: expected a dict with params, not float32[3,4]"],
}


@pytest.mark.parametrize("kind", MESSAGES)
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_tangents_that_do_not_fit(rules, kind, wrap):
    lifted = rules.lifted.Wrong(kind=kind)
    variables = lifted.init(KEY, X)
    with pytest.raises(vjpgen.TangentError) as caught:
        gradients(lifted, variables, wrap=wrap)
    text = str(caught.value)
    assert "Wrong.__call__.<locals>.f (rules.py:" in text
    assert "PyTreeDef" not in text
    for message in MESSAGES[kind]:
        assert message in text


def test_a_frozen_dict_equals_a_dict(rules):
    plain, lifted, variables = both(rules, "Wrong")
    assert_same(gradients(lifted, variables), gradients(plain, variables), rtol=1e-6)


def test_a_runtime_of_another_interface_says_what_to_run():
    with pytest.raises(ImportError, match=r"interface 99.*run: vjpgen build"):
        exec("from vjpgen.runtime import interface_99")


def test_numpy_arrays_are_arrays(rules):
    x = np.asarray(X)
    assert_same(rules.lifted.loop(x), jnp.sin(X))
