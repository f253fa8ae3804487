"""What a rule sees: its own function is its primal, and what is not traced stays as it is."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from tests.runtime.compare import assert_same

X = jax.random.normal(jax.random.key(1), (2, 3))
KEY = jax.random.key(0)
WRAPS = {"eager": lambda f: f, "jit": jax.jit, "remat": jax.checkpoint}
WAYS = ["call", "name", "method", "primal", "jit", "remat", "cond", "scan", "vmap", "map_variables"]


@pytest.fixture(scope="module")
def inside(pair):
    return pair("inside")


def doubled(tree):
    return jax.tree.map(lambda t: 2 * t, tree)


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=list(WRAPS))
def test_a_function_of_arrays_in_its_own_rules(inside, wrap):
    lifted = inside.lifted
    lifted.jitted_before(X)  # traced once with the rule, outside of it
    found = jax.grad(wrap(lambda x: lifted.wave(x).sum()))(X)
    assert_same(found, 5 * jnp.cos(X), rtol=1e-5)
    assert_same(jax.grad(lambda x: lifted.jitted_before(x).sum())(X), 5 * jnp.cos(X), rtol=1e-5)
    again = jax.grad(lambda x: jax.grad(wrap(lambda x: lifted.wave(x).sum()))(x).sum())(X)
    assert_same(again, -5 * jnp.sin(X), rtol=1e-5)
    # Another function's rule takes part in this one's, and this one's in the other's.
    assert_same(jax.grad(lambda x: lifted.other(x).sum())(X), 15 * jnp.cos(X), rtol=1e-5)


@pytest.mark.parametrize("way", WAYS)
def test_a_module_in_its_own_forward_rule(inside, way):
    def losses(module):
        return lambda v, x: inside_loss(module, v, x)

    def inside_loss(module, v, x):
        return (module.apply(v, x) ** 2).sum()

    plain, lifted = inside.plain.Ways(way), inside.lifted.Ways(way)
    variables = plain.init(KEY, X)
    expected = doubled(jax.grad(losses(plain), (0, 1))(variables, X))
    for wrap in WRAPS.values():
        assert_same(jax.grad(wrap(losses(lifted)), (0, 1))(variables, X), expected, rtol=1e-5)


@pytest.mark.parametrize(("name", "way"), [("Two", ["method"]), ("Chained", [])])
def test_another_module_of_the_class_keeps_its_rule(inside, name, way):
    """What comes before another one is doubled twice, also where that is called in `fwd`."""
    plain, lifted = getattr(inside.plain, name)(*way), getattr(inside.lifted, name)(*way)
    variables = plain.init(KEY, X)
    run = lambda m: jax.grad(lambda v: m.apply(v, X).sum())(variables)["params"]  # noqa: E731
    expected = run(plain)
    again = {"first": doubled(expected["first"]), "second": expected["second"]}
    if name == "Chained":  # the outer one's rule doubles what the inner one's has doubled
        again = doubled(expected)
    assert_same(run(lifted), doubled(again), rtol=1e-5)


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=list(WRAPS))
def test_values_that_are_not_traced(inside, wrap):
    def arguments(colour):
        return (3, True, "name", colour, jnp.float32, dict, jnp.sin, None, 0.5)

    plain = jax.grad(lambda x: inside.plain.static(x, *arguments(inside.plain.Colour.RED)).sum())
    given = arguments(inside.lifted.Colour.RED)
    assert_same(
        jax.grad(wrap(lambda x: inside.lifted.static(x, *given).sum()))(X), 5 * plain(X), rtol=1e-5
    )
    mapped = jax.vmap(jax.grad(wrap(lambda x: inside.lifted.static(x, *given).sum())))(X)
    assert_same(mapped, 5 * plain(X), rtol=1e-5)
