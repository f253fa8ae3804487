"""State and randomness under rules: the same updates, draws and captures as in the plain module."""

from __future__ import annotations

import os

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import vjpgen
from tests.runtime.compare import assert_same

X = jax.random.normal(jax.random.key(1), (4, 3))
RNGS = {name: jax.random.key(n) for n, name in enumerate(("params", "dropout", "noise"))}
WRAPS = pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])


@pytest.fixture(scope="module")
def state(pair):
    return pair("state")


def both(state, name, *args):
    plain, lifted = (getattr(m, name) for m in (state.plain, state.lifted))
    if args:
        args = [[getattr(m, a) for a in args] for m in (state.plain, state.lifted)]
        plain, lifted = plain(*args[0]), lifted(*args[1])
    else:
        plain, lifted = plain(), lifted()
    return plain, lifted, plain.init(RNGS, X)


def derive(module, variables, mutable, chosen=("params",), wrap=lambda f: f, x=X, **options):
    """Value, updates and gradients of a loss."""
    kept = {name: tree for name, tree in variables.items() if name not in chosen}

    def loss(variables, x):
        found = module.apply({**kept, **variables}, x, rngs=RNGS, mutable=mutable, **options)
        y = found if mutable is False else found[0]
        return (y**2).sum(), found

    function = jax.value_and_grad(wrap(loss), (0, 1), has_aux=True)
    return function({name: variables[name] for name in chosen}, x)


DENY = flax.core.DenyList(["params"])
# JAX's new rule machinery traces the primal always, its old one under `jit`, `scan`, `checkpoint`.
TRACED_FIRST = os.environ.get("JAX_CUSTOM_VJP3", "0") not in ("", "0")
CASES = {
    "BatchNorm": ("NormTwice", ["batch_stats"]),
    "BatchNorm, all mutable": ("NormTwice", True),
    "BatchNorm, a deny list": ("NormTwice", DENY),
    "sow": ("SowsTwice", ["intermediates", "losses", "aux"]),
    "sow, one collection": ("SowsTwice", ["intermediates"]),
    "sow, none": ("SowsTwice", False),
    "new collections": ("Creates", ["cache"]),
    "new collections, all mutable": ("Creates", True),
    "draws": ("Draws", False),
}


@pytest.mark.parametrize("case", CASES)
@WRAPS
def test_updates_and_gradients(state, case, wrap):
    name, mutable = CASES[case]
    plain, lifted, variables = both(state, name)
    if name == "SowsTwice":
        variables = {"params": variables["params"]}
    run = lambda module: module.apply(variables, X, rngs=RNGS, mutable=mutable)  # noqa: E731
    assert_same(run(lifted), run(plain))
    expected = derive(plain, variables, mutable, wrap=wrap)
    assert_same(derive(lifted, variables, mutable, wrap=wrap), expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["NormTwice", "SowsTwice"])
def test_updates_in_loops(state, name):
    mutable = ["batch_stats", "intermediates", "losses", "cache"]
    plain, lifted, variables = both(state, name)
    variables = {k: v for k, v in variables.items() if k in ("params", "batch_stats")}
    both_x = jnp.stack([X, 2 * X])

    def mapped(module):
        return jax.vmap(lambda x: derive(module, variables, mutable, x=x))(both_x)

    def scanned(module):
        step = lambda c, x: (c, derive(module, variables, mutable, x=x))  # noqa: E731
        return jax.lax.scan(step, 0.0, both_x)

    for run in (mapped, scanned):
        assert_same(run(lifted), run(plain), rtol=1e-5)
    expected = derive(plain, variables, mutable, wrap=jax.checkpoint)
    assert_same(derive(lifted, variables, mutable, wrap=jax.checkpoint), expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["NormTwice", "SowsTwice", "Draws", "Creates", "Perturbs"])
def test_initialization(state, name):
    plain, lifted, variables = both(state, name)
    assert_same(lifted.init(RNGS, X), variables)
    assert_same(lifted.init_with_output(RNGS, X), plain.init_with_output(RNGS, X))
    shapes = lambda m: jax.eval_shape(lambda: m.init(RNGS, X))  # noqa: E731
    assert shapes(lifted) == shapes(plain)
    apply = lambda m: lambda v: m.apply(v, X, rngs=RNGS, mutable=True)  # noqa: E731
    assert jax.eval_shape(apply(lifted), variables) == jax.eval_shape(apply(plain), variables)
    if name == "NormTwice":  # nothing of it depends on the values of the input
        shape = jax.ShapeDtypeStruct(X.shape, X.dtype)
        assert_same(lifted.lazy_init(RNGS, shape), plain.lazy_init(RNGS, shape))


def test_draws_of_modules_around(state):
    """What a rule has drawn is counted for whoever draws afterwards."""
    plain, lifted, variables = both(state, "DrawsAround")
    expected = derive(plain, variables, False)
    assert_same(derive(lifted, variables, False), expected, rtol=1e-5)


def test_tabulate(state):
    for name, more in (
        ("DrawsAround", {}),
        ("Ruled", {"compute_flops": True, "compute_vjp_flops": True}),
    ):
        plain, lifted, _ = both(state, name)
        options = {"console_kwargs": {"width": 160}, **more}
        assert lifted.tabulate(RNGS, X, **options) == plain.tabulate(RNGS, X, **options)


@pytest.mark.parametrize("name", ["Perturbs", "PerturbsByAutodiff"])
@WRAPS
def test_perturbations(state, name, wrap):
    chosen = ("params", "perturbations")
    plain, lifted, variables = both(state, "PerturbsAround", name)
    expected = derive(plain, variables, False, chosen, wrap)
    assert jnp.any(expected[1][0]["perturbations"][f"{name}_0"]["h"] != 0)
    assert_same(derive(lifted, variables, False, chosen, wrap), expected, rtol=1e-5)
    mutable = ["perturbations"]
    expected = derive(plain, variables, mutable, chosen, wrap)
    assert_same(derive(lifted, variables, mutable, chosen, wrap), expected, rtol=1e-5)


def test_perturbations_without_a_slot(state):
    plain, lifted, variables = both(state, "PerturbsStrictly")
    chosen = ("params", "perturbations")
    with pytest.warns(vjpgen.DroppedTangentWarning, match=r"perturbations\.h, perturbations\.out"):
        _, (found, _) = derive(lifted, variables, False, chosen)
    assert_same(found["perturbations"], jax.tree.map(jnp.zeros_like, found["perturbations"]))
    assert_same(
        derive(lifted, variables, False), derive(plain, variables, False), rtol=1e-5
    )  # not differentiated: nothing to say


@pytest.mark.parametrize(
    "capture", [True, lambda module, _: isinstance(module, nn.Dense)], ids=["all", "filter"]
)
@pytest.mark.parametrize("name", ["NormTwice", "SowsTwice"])
def test_captured_intermediates(state, name, capture):
    """Also where JAX traces the forward rule after `apply` has ended: the gradient of a `jit`."""
    plain, lifted, variables = both(state, name)
    variables = {k: v for k, v in variables.items() if k in ("params", "batch_stats")}
    mutable = ["batch_stats", "intermediates"]
    options = {"mutable": mutable, "capture_intermediates": capture}
    for wrap in (lambda f: f, jax.jit):
        expected = derive(plain, variables, wrap=wrap, **options)
        assert_same(derive(lifted, variables, wrap=wrap, **options), expected, rtol=1e-5)


def test_a_forward_rule_that_updates_less_than_its_primal(state):
    """Eagerly the updates are its own; under `jit` the primal gives what the rule does not."""
    plain, lifted, variables = both(state, "ByHand")
    variables = {"params": variables["params"]}
    options = {"mutable": ["intermediates"], "capture_intermediates": True}
    expected = derive(plain, variables, **options)
    found = derive(lifted, variables, wrap=jax.jit, **options)
    assert_same(found, expected, rtol=1e-5)
    ((value, (y, updates)), gradients) = derive(lifted, variables, **options)
    ((wanted, (_, all_updates)), wanted_gradients) = expected
    assert_same((value, gradients), (wanted, wanted_gradients), rtol=1e-5)
    captured = all_updates["intermediates"]["__call__"]
    own = {"intermediates": {"__call__": captured}}
    assert_same(updates, all_updates if TRACED_FIRST else own, rtol=1e-5)
    assert_same(y, captured[0], rtol=1e-5)


def test_a_forward_rule_that_calls_the_module_more_often(state):
    """The updates are those that it made: values, and eagerly also how many there are."""
    lifted, twice = state.lifted.CalledMore(), state.plain.Twice()
    mutable = ["batch_stats", "stats", "intermediates", "losses"]
    variables = lifted.init(RNGS, X)
    variables = {k: v for k, v in variables.items() if k not in ("intermediates", "losses")}
    named = lambda updates: {k: v["Layer_0"] for k, v in updates.items()}  # noqa: E731

    def updates(module, **options):
        ((_, (y, found)), _) = derive(module, variables, mutable, **options)
        return y, named(found)

    y, expected = updates(twice)
    first = {**expected, "intermediates": {"x": expected["intermediates"]["x"][:1]}}
    assert_same(updates(lifted), (y, first if TRACED_FIRST else expected), rtol=1e-5)
    assert expected["stats"]["calls"] == 3  # the first was in `init`
    assert len(expected["intermediates"]["x"]) == 2
    _, found = updates(lifted, wrap=jax.jit)  # the primal's trace has settled how many there are
    assert_same(found, first, rtol=1e-5)
    # where nothing is differentiated the primal runs, once
    _, found = lifted.apply(variables, X, rngs=RNGS, mutable=mutable)
    assert found["stats"]["Layer_0"]["calls"] == 2


@pytest.mark.parametrize("name", ["SetsUp", "SetsUpAround", "SetsUpArgument"])
@WRAPS
def test_a_setup_that_draws_and_updates(state, name, wrap):
    """It has its effects once in a pass, however many runs of rules go through it."""
    plain, lifted, variables = both(state, name)
    for mutable in (False, ["stats"]):
        expected = derive(plain, variables, mutable, wrap=wrap)
        assert_same(derive(lifted, variables, mutable, wrap=wrap), expected, rtol=1e-5)
