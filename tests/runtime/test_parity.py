"""The generated module beside its source: the same trees, values, draws, updates, gradients.

Every rule of `sources/layers.py` is the vjp function itself, so its gradients are autodiff's.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from tests.runtime.compare import assert_same

X = jax.random.normal(jax.random.key(1), (4, 3))
BATCH = {"image": X, "label": jnp.arange(4)}
CALLS = {
    "Compact": ((X,), {}),
    "Setup": ((X,), {}),
    "OtherName": ((X,), {}),
    "Stateful": ((X,), {"train": True}),
    "Noisy": ((X,), {}),
    "Boxed": ((X,), {}),
    "Shared": ((X,), {}),
    "CalledTwice": ((X,), {}),
    "Nested": ((X,), {}),
    "NestedFunction": ((X,), {}),
    "OnSelf": ((X,), {}),
    "Signature": ((X, 3.0, X, 2 * X), {"train": True, "shift": jnp.float32(2)}),
    "Structured": ((BATCH,), {}),
    "Decorated": ((X,), {}),
}
STATE = ["batch_stats", "counter", "intermediates"]
RNGS = {name: jax.random.key(n) for n, name in enumerate(("params", "dropout", "noise"))}


def _arrays(tree):
    leaves = jax.tree.leaves(tree)
    return [x for x in leaves if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jnp.inexact)]


def _loss(module, kwargs, state):
    def loss(params, args):
        y, updates = module.apply(
            {"params": params, **state}, *args, rngs=RNGS, mutable=STATE, **kwargs
        )
        return sum((leaf**2).sum() for leaf in _arrays(y)), updates

    return loss


@pytest.fixture(params=CALLS)
def case(request, pair):
    layers = pair("layers")
    args, kwargs = CALLS[request.param]
    plain = getattr(layers.plain, request.param)()
    lifted = getattr(layers.lifted, request.param)()
    variables = plain.init(RNGS, *args, **kwargs)
    return plain, lifted, variables, args, kwargs


def _gradient(module, variables, args, kwargs, wrap=lambda f: f):
    params, state = variables["params"], {k: v for k, v in variables.items() if k != "params"}
    differentiable = [n for n, a in enumerate(args) if isinstance(a, jax.Array)]
    loss = _loss(module, kwargs, state)

    def function(params, chosen):
        full = list(args)
        for place, value in zip(differentiable, chosen, strict=True):
            full[place] = value
        return loss(params, full)

    derived = jax.value_and_grad(function, argnums=(0, 1), has_aux=True)
    return wrap(derived)(params, [args[n] for n in differentiable])


def test_init(case):
    plain, lifted, variables, args, kwargs = case
    assert_same(lifted.init(RNGS, *args, **kwargs), variables)
    assert_same(
        jax.jit(lambda rngs: lifted.init(rngs, *args, **kwargs))(RNGS),
        jax.jit(lambda rngs: plain.init(rngs, *args, **kwargs))(RNGS),
    )


def test_apply(case):
    plain, lifted, variables, args, kwargs = case
    for options in (
        {"mutable": ["batch_stats"]},
        {"mutable": STATE},
        {"mutable": STATE, "capture_intermediates": True},
    ):
        expected = plain.apply(variables, *args, rngs=RNGS, **options, **kwargs)
        assert_same(lifted.apply(variables, *args, rngs=RNGS, **options, **kwargs), expected)


def test_captures_of_every_method(case):
    plain, lifted, variables, args, kwargs = case

    def run(module):
        return module.apply(
            variables,
            *args,
            rngs=RNGS,
            mutable=STATE,
            capture_intermediates=_all_but_setup,
            **kwargs,
        )

    assert_same(run(lifted), run(plain))
    # under differentiation the forward rule runs in the primal's place
    (_, ours), _ = jax.value_and_grad(lambda v: run_sum(lifted, v, run), has_aux=True)(1.0)
    assert_same(ours, run(plain)[1])


def _all_but_setup(module, name):
    # As under Flax's own transforms, setup runs once in every clone; it has no output to capture.
    return name != "setup"


def run_sum(module, scale, run):
    y, updates = run(module)
    return scale * sum(leaf.sum() for leaf in _arrays(y)), updates


def test_tabulate(case):
    plain, lifted, _, args, kwargs = case
    assert lifted.tabulate(RNGS, *args, **kwargs) == plain.tabulate(RNGS, *args, **kwargs)


def test_gradient_is_exactly_autodiffs(case):
    plain, lifted, variables, args, kwargs = case
    expected = _gradient(plain, variables, args, kwargs)
    assert_same(_gradient(lifted, variables, args, kwargs), expected, rtol=1e-6)


def test_gradient_under_jit(case):
    plain, lifted, variables, args, kwargs = case
    expected = _gradient(plain, variables, args, kwargs, jax.jit)
    assert_same(_gradient(lifted, variables, args, kwargs, jax.jit), expected, rtol=1e-5)


def test_gradient_of_jit(case):
    """The forward rule is traced after the primal here; it must draw the same numbers."""
    plain, lifted, variables, args, kwargs = case

    def derive(module):
        state = {k: v for k, v in variables.items() if k != "params"}

        @jax.jit
        def loss(params):
            return _loss(module, kwargs, state)(params, args)[0]

        return jax.grad(loss)(variables["params"])

    assert_same(derive(lifted), derive(plain), rtol=1e-5)


def test_gradient_of_gradient(case):
    plain, lifted, variables, args, kwargs = case

    def derive(module):
        state = {k: v for k, v in variables.items() if k != "params"}

        def norm(params):
            g = jax.grad(lambda p: _loss(module, kwargs, state)(p, args)[0])(params)
            return sum((leaf**2).sum() for leaf in jax.tree.leaves(g))

        return jax.jit(jax.grad(norm))(variables["params"])

    assert_same(derive(lifted), derive(plain), rtol=1e-4)


def test_checkpoint_and_vmap(case):
    plain, lifted, variables, args, kwargs = case

    def derive(module):
        state = {k: v for k, v in variables.items() if k != "params"}

        def loss(params, scale):
            scaled = jax.tree.map(lambda x: scale * x, params)
            return _loss(module, kwargs, state)(scaled, args)[0]

        gradient = jax.grad(jax.checkpoint(loss))
        return jax.vmap(gradient, (None, 0))(variables["params"], jnp.array([1.0, 2.0]))

    assert_same(derive(lifted), derive(plain), rtol=1e-4)
