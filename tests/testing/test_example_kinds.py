"""What an example may return, through to a report: several sets, keys, bound modules."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vjpgen import custom_vjp
from vjpgen.testing.examples import argument_sets
from vjpgen.testing.report import RuleReport
from vjpgen.testing.verifying import verify


def verified(function: Any, arguments: tuple[Any, ...]) -> RuleReport:
    return verify(function, arguments, claims={"exact": True})


def clipped(x):
    return jnp.clip(x, -1.0, 1.0)


clipped = custom_vjp(
    clipped, lambda x: (clipped(x), x), lambda x, t: (jnp.where(jnp.abs(x) < 2, t, 0),)
)


def test_each_set_is_one_of_its_own():
    sets = argument_sets(lambda: [(jnp.array([0.5, -0.25]),), (jnp.array([1.5, 3.0]),)])
    inside, outside = (verified(clipped, arguments) for arguments in sets)
    assert inside.ok, inside.findings
    assert outside.status == "failed"
    (error,) = (each for each in outside.errors if each.check == "gradient")
    assert error.found.endswith("at [0]")  # where the rule lets through what is clipped


def keyed(key, x):
    return x * jax.random.normal(key, x.shape)


keyed = custom_vjp(
    keyed,
    lambda key, x: (keyed(key, x), (key, x.shape)),
    lambda saved, t: (None, t * jax.random.normal(*saved, t.dtype)),
)


def test_a_key_among_the_arguments():
    report = verified(keyed, (jax.random.key(3), jnp.array([1.0, 2.0])))
    assert report.ok, report.findings
    assert [leaf.path for leaf in report.leaves] == ["x"]


class Layer(nn.Module):
    """Scales, adds up what it has seen, and draws."""

    @nn.compact
    def __call__(self, x):
        scale = self.param("scale", nn.initializers.ones, ())
        seen = self.variable("seen", "sum", jnp.zeros, ())
        if self.is_mutable_collection("seen"):
            seen.value += jax.lax.stop_gradient(x).sum()
        noise = jax.random.normal(self.make_rng("noise"), x.shape, x.dtype)
        return x * scale * noise + seen.value


def bwd(vjp_fn, y_t):
    return vjp_fn(y_t)


def test_a_bound_module_comes_with_its_variables_keys_and_mutable_collections():
    run = custom_vjp(
        lambda module, x: module(x),
        lambda module, x: nn.vjp(lambda m, x: m(x), module, x),
        bwd,
    )
    variables = {"params": {"scale": jnp.array(3.0)}, "seen": {"sum": jnp.array(1.0)}}
    rngs = {"noise": jax.random.key(5)}
    example = lambda: (Layer().bind(variables, rngs=rngs, mutable=["seen"]), jnp.ones(2))  # noqa: E731
    (arguments,) = argument_sets(example)
    report = verified(run, arguments)
    assert report.ok, report.findings
    shown = {leaf.path: leaf.relation for leaf in report.leaves}
    assert shown == {"params.scale": "exact", "x": "exact"}
