"""Rules under every ordered pair of JAX's transforms, beside autodiff and a rule lifted by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from tests.runtime.compare import assert_same
from tests.runtime.transforms.nesting import TRANSFORMS, derive, of_module

X = jax.random.normal(jax.random.key(1), (2, 3))
KEY = jax.random.key(2, impl="rbg")
PARAMS = {"kernel": jax.random.normal(jax.random.key(3), (3, 3))}
STATS = {"mean": jnp.array([0.1, -0.2, 0.3])}
# The rule, and the plain module that it must be equal to.
KINDS = [("Exact", "Exact"), ("Surrogate", "ByHand")]
CORE = ["jit", "vmap", "grad", "checkpoint", "scan", "shard_map"]
OTHERS = [name for name in TRANSFORMS if name not in CORE]
# Each of the core in each, the others in and around those that they meet most.
INNER = {outer: [*CORE] for outer in CORE} | {outer: ["vmap", "scan"] for outer in OTHERS}
INNER["shard_map"].remove("shard_map")  # a mesh axis is taken once
for place, other in enumerate(OTHERS):
    INNER[["vmap", "scan", "grad"][place % 3]].append(other)


@pytest.mark.parametrize("outer", list(INNER))
def test_pairs(pair, outer):
    """`outer` of each inner transform; exact rules and surrogates take turns."""
    source = pair("transforms")
    lifted, plain = {}, {}
    for place, inner in enumerate(INNER[outer]):
        rule, oracle = KINDS[(place + list(INNER).index(outer)) % 2]
        name = f"{outer} of {inner}: {rule}"
        for steps, module in (
            (lifted, getattr(source.lifted, rule)()),
            (plain, getattr(source.plain, oracle)()),
        ):
            steps[name] = TRANSFORMS[outer](TRANSFORMS[inner](of_module(module)))
    params, stats = dict.fromkeys(plain, PARAMS), dict.fromkeys(plain, STATS)
    expected = derive(plain, KEY)(params, stats, X)
    assert_same(derive(lifted, KEY)(params, stats, X), expected, rtol=1e-4)
