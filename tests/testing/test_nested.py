"""Nested functions as functions of their own arguments."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vjpgen.importing.loading import find, hooked, load
from vjpgen.importing.settings import Settings
from vjpgen.runtime import interface_1
from vjpgen.runtime.recursion import plain
from vjpgen.testing.examples import NoExampleError
from vjpgen.testing.nested import Nested, NotAloneError, alone
from vjpgen.testing.verifying import verify

NAME = "nested_sources"


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The sources as a module with rules, in a project where no configuration excludes them."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "pyproject.toml").write_text("")
    path = shutil.copy(Path(__file__).with_name(f"{NAME}.py"), folder)
    source = find(str(path))
    with hooked(source, Settings()):
        module = load(source, Settings())
    yield module
    del sys.modules[NAME]


def taken(sources: ModuleType, called: str, example: str) -> Nested:
    function = sources
    for part in called.split("."):
        function = getattr(function, part)
    arguments = getattr(sources, example)(jax.random.key(0))
    lift = interface_1.lift
    try:
        return alone(function, arguments, f"{called}.<locals>.f", "params")
    finally:
        assert interface_1.lift is lift


def test_a_function_is_taken_out_with_what_it_captures(sources):
    found = taken(sources, "outer", "numbers")
    (x,) = found.arguments  # `power` is nondiff, and stays
    assert found.claims["exact"] == ("x",)
    with jax.enable_x64(True):
        other = jnp.array([1.0, 2.0, 3.0])
        np.testing.assert_allclose(found.function(other), x.sum() * other**2)
        gradient = jax.jit(jax.grad(lambda x: found.function(x).sum()))(other)
        np.testing.assert_allclose(gradient, 2 * x.sum() * other)


def test_a_module_is_its_variables_and_each_call_draws_the_same(sources):
    found = taken(sources, "Layer.__call__", "layer")
    dense, x = found.arguments
    assert jax.tree.map(jnp.shape, dense) == {"params": {"bias": (2,), "kernel": (2, 2)}}
    assert found.claims["exact"] == ("dense.params",)
    with jax.enable_x64(True):
        np.testing.assert_array_equal(found.function(dense, x), found.function(dense, x))
        twice = jax.tree.map(lambda leaf: 2 * leaf, dense)
        np.testing.assert_allclose(found.function(twice, x), 2 * found.function(dense, x))
        loss = lambda x: found.function(dense, x).sum()  # noqa: E731
        ruled = jax.grad(loss)(x)
        with plain():
            np.testing.assert_allclose(ruled, 2 * jax.grad(loss)(x))


def test_the_module_around_can_be_among_the_arguments(sources):
    found = taken(sources, "Layer.on_itself", "layer")
    mdl, x = found.arguments
    assert set(mdl["params"]) == {"inner"}
    with jax.enable_x64(True):
        expected = x @ mdl["params"]["inner"]["kernel"]
        np.testing.assert_allclose(found.function(mdl, x), expected)


def test_claims_are_tested_on_its_own_arguments(sources):
    found = taken(sources, "Layer.__call__", "layer")
    report = verify(found.function, found.arguments, claims=found.claims)
    assert report.ok, report.findings
    assert {leaf.path: leaf.claim for leaf in report.leaves} == {
        "dense.params.bias": "exact",
        "dense.params.kernel": "exact",
        "x": "surrogate",
    }


def test_what_cannot_be_called_by_itself_says_why(sources):
    with pytest.raises(NotAloneError, match="`scanned` calls it while JAX traces"):
        taken(sources, "scanned", "numbers")
    with pytest.raises(NotAloneError, match="modules in a tree"):
        taken(sources, "in_a_tree", "two_layers")


def test_a_function_that_is_never_called_has_no_example(sources):
    with pytest.raises(NoExampleError, match=r"does not call `never\.<locals>\.f`"):
        taken(sources, "never", "numbers")
