"""Forward mode: an error that says why, and what to use; forward over reverse works."""

from __future__ import annotations

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import vjpgen
from tests.runtime.compare import assert_same

X = jnp.array([[0.5, -1.0, 2.0]])
RNGS = {"noise": jax.random.key(0)}


@pytest.fixture
def source(pair):
    return pair("transforms")


def _apply(module, **options):
    variables = {"params": {"kernel": jnp.eye(3)}, "stats": {"mean": jnp.ones(3)}}
    return lambda x: module.apply(variables, x, rngs=RNGS, **options)


FORWARD = {
    "jvp": lambda f: jax.jvp(f, (X,), (X,)),
    "jacfwd": lambda f: jax.jacfwd(f)(X),
    "jit of jacfwd": lambda f: jax.jit(jax.jacfwd(f))(X),
    "vmap of jvp": lambda f: jax.vmap(lambda x: jax.jvp(f, (x,), (x,)))(X),
    "jvp of vmap": lambda f: jax.jvp(jax.vmap(f), (X,), (X,)),
    "jacfwd of jacfwd": lambda f: jax.jacfwd(jax.jacfwd(f))(X),
}
LATER = {
    "jvp of jit": lambda f: jax.jvp(jax.jit(f), (X,), (X,)),
    "jit of jvp": lambda f: jax.jit(lambda x: jax.jvp(f, (x,), (x,)))(X),
}


@pytest.mark.parametrize("name", FORWARD)
def test_the_error_says_why_and_what_to_use(source, name):
    with pytest.raises(TypeError) as caught:
        FORWARD[name](_apply(source.lifted.Surrogate()))
    message = str(caught.value)
    assert "forward-mode autodiff" in message
    assert "custom_vjp" in message
    assert re.search(r"Surrogate\.__call__ \(transforms\.py:\d+\)", message)
    for advice in ("jax.grad", "jax.vjp", "jax.jacrev(jax.jacrev(f))", "vjpgen.primal(f)"):
        assert advice in message
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("name", LATER)
def test_where_the_call_was_traced_before_jax_says_it(source, name):
    """JAX cannot know yet whether a transposition follows, which would be right."""
    with pytest.raises(TypeError, match=r"forward-mode autodiff .* custom_vjp"):
        LATER[name](_apply(source.lifted.Surrogate()))


def test_a_function_that_the_rule_calls_is_not_blamed_on_the_rule():
    other = jax.custom_vjp(jnp.sin)
    other.defvjp(lambda x: (jnp.sin(x), x), lambda x, t: (jnp.cos(x) * t,))

    def forward(x):
        return jax.jvp(other, (x,), (x,))

    function = vjpgen.custom_vjp(other, forward, lambda x, t: (t,))
    with pytest.raises(TypeError, match=r"\(jvp\) to a custom_vjp function\."):
        jax.grad(lambda x: function(x).sum())(X)
    wrong = vjpgen.custom_vjp(jnp.sin, lambda x: (x + {}, x), lambda x, t: (t,))
    with pytest.raises(TypeError, match="unsupported operand"):
        jax.grad(lambda x: wrong(x).sum())(X)


def test_the_primal_has_forward_mode(source):
    method = vjpgen.primal(source.lifted.Surrogate.__call__)
    ours = jax.jvp(_apply(source.lifted.Surrogate(), method=method), (X,), (X,))
    assert_same(ours, jax.jvp(_apply(source.plain.Surrogate()), (X,), (X,)))


def test_flax_jvp(source):
    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.jvp(
                lambda cell, x: cell(x), source.lifted.Surrogate(name="c"), (x,), (x,), {}
            )

    variables = {"params": {"c": {"kernel": jnp.eye(3)}}, "stats": {"c": {"mean": jnp.ones(3)}}}
    with pytest.raises(TypeError, match=r"forward-mode autodiff .* Surrogate\.__call__"):
        Model().apply(variables, X, rngs=RNGS)


@pytest.mark.parametrize(
    "second", [jax.hessian, lambda f: jax.jacrev(jax.jacrev(f)), lambda f: jax.jacfwd(jax.grad(f))]
)
def test_second_derivatives(source, second):
    """Of the rule itself: forward or reverse over reverse."""

    def derive(module):
        return jax.jit(second(lambda x: (_apply(module)(x) ** 3).sum()))(X)

    ours, by_hand = derive(source.lifted.Surrogate()), derive(source.plain.ByHand())
    assert_same(ours, by_hand, rtol=1e-5)
    assert_same(derive(source.lifted.Exact()), derive(source.plain.Exact()), rtol=1e-5)


def test_linearize_and_its_transpose(source):
    def transposed(module):
        y, linear = jax.linearize(_apply(module), X)
        return y, jax.linear_transpose(linear, X)(y)

    assert_same(transposed(source.lifted.Surrogate()), transposed(source.plain.ByHand()), rtol=1e-6)
