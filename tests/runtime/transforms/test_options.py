"""`symbolic_zeros` and `optimize_remat` under each transform, as in `jax.custom_vjp`."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from tests.runtime.compare import assert_same

X = jnp.array([0.5, -1.0, 2.0])


def _scan(f):
    def turn(x, _):
        return f(x), None

    return lambda x: lax.scan(turn, x, None, length=2)[0]


AROUND = {
    "alone": lambda f: f,
    "jit": jax.jit,
    "vmap": jax.vmap,
    "checkpoint": jax.checkpoint,
    "scan": _scan,
    "scan of checkpoint": lambda f: _scan(jax.checkpoint(f)),
    "checkpoint of vmap": lambda f: jax.checkpoint(jax.vmap(f)),
    "cond": lambda f: lambda x: lax.cond(x.sum() > 0, f, jnp.sin, x),
    "jit of grad": lambda f: jax.jit(jax.grad(lambda x: f(x).sum())),
}
USES = {
    "first": lambda f: lambda x: f(x, jnp.ones_like(x))[0],
    "second": lambda f: lambda x: f(jnp.ones_like(x), x)[1],
    "both": lambda f: lambda x: sum(f(x, 2 * x)),
}


def _same(ours, hand):
    """Compare gradients of several functions, in one program each."""

    def every(functions):
        def grads(x):
            return {n: jax.grad(lambda x, f=f: f(x).sum())(x) for n, f in functions.items()}

        return jax.jit(grads)(X)

    assert_same(every(ours), every(hand), rtol=1e-5)


@pytest.mark.parametrize("use", USES)
def test_symbolic_zeros(pair, use):
    source = pair("transformed")
    hand, ours = source.plain.symbolic_by_hand, source.lifted.symbolic
    _same(
        {name: around(USES[use](ours)) for name, around in AROUND.items()},
        {name: around(USES[use](hand)) for name, around in AROUND.items()},
    )


def test_optimized_remat(pair):
    source = pair("transformed")
    around = {name: f for name, f in AROUND.items() if name != "jit of grad"}
    _same(
        {name: f(source.lifted.opaque) for name, f in around.items()},
        {name: f(source.plain.opaque_by_hand) for name, f in around.items()},
    )


def test_optimized_remat_runs_no_forward_rule_for_the_output_alone(pair):
    """Under remat the first pass runs the primal: what the option is for."""
    source = pair("transformed")

    def passes(f):
        text = str(jax.make_jaxpr(jax.checkpoint(lambda x: f(jnp.sin(f(x)))))(X))
        grad = str(jax.make_jaxpr(jax.grad(lambda x: jax.checkpoint(f)(x).sum()))(X))
        return text.count(" cos"), grad.count(" cos"), grad.count("remat_opt")

    assert passes(source.lifted.opaque) == passes(source.plain.opaque_by_hand)
