"""The golden sources under the hook: what their generated modules give."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vjpgen
from tests.compiler.test_cases_run import CASES, FUNCTIONS, X
from tests.importing.conftest import Folder


@pytest.fixture(autouse=True)
def _hooked_cases(folder: Folder) -> Iterator[None]:
    """The sources alone, so that nothing can come from a generated module."""
    shutil.copytree(CASES, folder.path / "cases", ignore=shutil.ignore_patterns("*_vjp.py"))
    with vjpgen.install_import_hook("cases"):
        yield


@pytest.mark.parametrize(("name", "find", "slope"), FUNCTIONS.values(), ids=FUNCTIONS)
def test_a_function_has_the_gradient_of_its_rule(name: str, find: Any, slope: float):
    function = find(importlib.import_module(f"cases.{name.removesuffix('_vjp')}"))
    gradient = jax.grad(lambda x: function(x).sum())(X)
    np.testing.assert_allclose(gradient, jnp.full_like(X, slope))


@pytest.mark.parametrize("name", sorted(path.stem for path in CASES.glob("*_vjp.py")))
def test_it_imports_and_has_its_rules(name: str):
    module = importlib.import_module(f"cases.{name.removesuffix('_vjp')}")
    assert {"_vjpgen", "_vjp1gen"} & vars(module).keys()
