"""Reversible blocks: the gradients of plain autodiff, without its activations."""

from __future__ import annotations

import jax
import pytest

from tests.runtime.compare import assert_same, double

X = jax.random.normal(jax.random.key(1), (5, 3))


@pytest.fixture
def reversible(pair, x64):
    return pair("patterns/reversible")


def loss_of(module, x):
    def loss(params):
        y = module.apply({"params": params}, x, rngs={"dropout": jax.random.key(2)})
        return (y**2).sum()

    return loss


@pytest.mark.parametrize(
    ("dropout", "wrap"),
    [(0.0, lambda f: f), (0.4, lambda f: f), (0.4, jax.checkpoint)],
    ids=["plain", "dropout", "remat"],
)
def test_gradients_are_those_of_autodiff(reversible, dropout, wrap):
    plain, lifted = (m.RevNet(4, 2, dropout) for m in (reversible.plain, reversible.lifted))
    rngs = {"params": jax.random.key(0), "dropout": jax.random.key(3)}
    variables = plain.init(rngs, X)
    assert_same(lifted.init(rngs, X), variables)
    params, x = double(variables["params"]), double(X)
    found = jax.jit(jax.value_and_grad(wrap(loss_of(lifted, x))))(params)
    expected = jax.jit(jax.value_and_grad(loss_of(plain, x)))(params)
    assert_same(found, expected, rtol=1e-9)


def test_examples_by_vmap(reversible):
    params = double(reversible.plain.RevNet(4, 1).init(jax.random.key(0), X)["params"])

    def gradient(module):
        one = jax.grad(lambda p, x: (module.RevNet(4, 1).apply({"params": p}, x) ** 2).sum())
        return jax.jit(jax.vmap(one, (None, 0)))(params, double(X))

    assert_same(gradient(reversible.lifted), gradient(reversible.plain), rtol=1e-9)


def test_the_residuals_do_not_grow_with_depth(reversible):
    """Beside the parameters only the last block's outputs are kept, however many blocks."""

    def activations(source, depth):
        module = source.RevNet(4, depth)
        params = module.init(jax.random.key(0), X)["params"]
        _, vjp_fn = jax.vjp(lambda p: module.apply({"params": p}, X), params)
        kept = {id(x): x for x in jax.tree.leaves(vjp_fn) if isinstance(x, jax.Array)}
        owned = {id(x) for x in jax.tree.leaves(params)}
        return sorted(
            x.shape for key, x in kept.items() if key not in owned and x.shape[:1] == (5,)
        )

    # the input of the last dense layer, the input of the first, and both halves between
    assert activations(reversible.lifted, 1) == [(5, 3), (5, 4), (5, 4), (5, 8)]
    assert activations(reversible.lifted, 3) == activations(reversible.lifted, 1)
    assert len(activations(reversible.plain, 3)) > len(activations(reversible.plain, 1))
