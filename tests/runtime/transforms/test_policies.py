"""`jax.checkpoint` policies act on what a forward rule names and computes."""

from __future__ import annotations

import collections
import contextlib
import io
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from tests.runtime.compare import assert_same

X = jax.random.normal(jax.random.key(1), (2, 3))
KERNEL = jax.random.normal(jax.random.key(2), (3, 3))
POLICIES = {
    "none": None,
    "everything": jax.checkpoint_policies.everything_saveable,
    "nothing": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_saveable,
    "dots without batch": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "cos": jax.checkpoint_policies.save_only_these_names("cos"),
    "inner and y": jax.checkpoint_policies.save_only_these_names("inner", "y"),
    "all but cos": jax.checkpoint_policies.save_anything_except_these_names("cos"),
}


def _twice(named):
    return lambda x, kernel: jnp.tanh(named(jnp.tanh(named(x, kernel)), kernel)).sum()


def _saved(function) -> list[str]:
    """List what is saved, each by its type; equal calls are one function, whose names JAX hides."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        jax.ad_checkpoint.print_saved_residuals(function, X, KERNEL)
    return sorted(
        re.sub(r" (from|output of|named) .*", "", line) for line in text.getvalue().splitlines()
    )


def _work(function) -> dict[str, int]:
    """Count what the gradient computes."""
    found = collections.Counter(_primitives(jax.make_jaxpr(jax.grad(function, (0, 1)))(X, KERNEL)))
    return {name: found[name] for name in ("dot_general", "cos", "sin", "tanh")}


def _primitives(jaxpr):
    """Yield the operations of a jaxpr, and of those that it calls each time that it does."""
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        yield equation.primitive.name
        for part in equation.params.values():
            if hasattr(part, "eqns") or hasattr(part, "jaxpr"):
                yield from _primitives(part)


@pytest.mark.parametrize("name", POLICIES)
def test_policies_save_as_by_hand(pair, name):
    source = pair("transformed")
    both = source.plain.named_by_hand, source.lifted.named
    hand, ours = (jax.checkpoint(_twice(f), policy=POLICIES[name]) for f in both)
    assert _saved(ours) == _saved(hand)
    assert _work(ours) == _work(hand)
    grads = [jax.jit(jax.grad(f, (0, 1)))(X, KERNEL) for f in (ours, hand)]
    assert_same(*grads, rtol=1e-6)


def test_names_decide(pair):
    """The policies are not equal to each other: what is named is saved."""
    ours = _twice(pair("transformed").lifted.named)
    functions = {name: jax.checkpoint(ours, policy=p) for name, p in POLICIES.items()}
    saved = {name: len(_saved(function)) for name, function in functions.items()}
    work = {name: _work(function)["dot_general"] for name, function in functions.items()}
    assert saved["cos"] == saved["nothing"] + 2
    assert work["dots"] == work["inner and y"] < work["nothing"]


def test_policies_of_flax_remat(pair):
    """Of a module: the kernel is an operand, what the rule names is what is saved."""
    source = pair("transformed")

    def work(named, policy):
        class Layer(nn.Module):
            @nn.compact
            def __call__(self, x):
                return named(x, self.param("kernel", nn.initializers.ones, (3, 3)))

        remat = nn.remat(Layer, policy=POLICIES[policy])()
        return _work(lambda x, kernel: remat.apply({"params": {"kernel": kernel}}, x).sum())

    for policy in ("nothing", "cos", "inner and y"):
        ours = work(source.lifted.named, policy)
        assert ours == work(source.plain.named_by_hand, policy)
    counts = [work(source.lifted.named, policy)["dot_general"] for policy in ("nothing", "cos")]
    assert counts[0] == counts[1] + 1
