"""The golden modules run: their functions have the gradients that their rules give."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

CASES = Path(__file__).resolve().parents[1] / "cases"
GENERATED = sorted(path.stem for path in CASES.glob("*_vjp.py"))
X = jnp.array([0.3, 1.3, 2.3])


@pytest.fixture(autouse=True)
def _cases_on_the_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(CASES.parent))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "cases"]:
        del sys.modules[name]


def case(name: str) -> ModuleType:
    return importlib.import_module(f"cases.{name}")


@pytest.mark.parametrize("name", GENERATED)
def test_it_imports(name: str) -> None:
    assert case(name)


FUNCTIONS: dict[str, tuple[str, Callable[[ModuleType], Any], Any]] = {
    "nondiff": ("plain_function_vjp", lambda m: lambda x: m.clip(x, 0, 1), 1.0),
    "lambda": ("plain_function_vjp", lambda m: m.triple, 6.0),
    "static": ("static_method_vjp", lambda m: m.Rounding.to_integer, 1.0),
    "bound static": ("static_method_vjp", lambda m: m.Rounding().to_integer, 1.0),
    "captured class name": ("static_method_vjp", lambda m: m.Rounding.to_level, 0.25),
    "plain class": ("static_method_vjp", lambda m: m.Outer.Inner(), 1.0),
    "method": ("positions_vjp", lambda m: m.Holder().second, 1.0),
    "nested": (
        "long_names_vjp",
        lambda m: m.AClassWithAFairlyLongNameAroundIt.Another().method,
        1.0,
    ),
    "private": (
        "long_names_vjp",
        lambda m: m.AClassWithAFairlyLongNameAroundIt.Another()._Another__private,
        1.0,
    ),
}


@pytest.mark.parametrize(("name", "find", "slope"), FUNCTIONS.values(), ids=FUNCTIONS)
def test_a_function_has_the_gradient_of_its_rule(name: str, find: Any, slope: float) -> None:
    function = find(case(name))
    gradient = jax.grad(lambda x: function(x).sum())(X)
    np.testing.assert_allclose(gradient, jnp.full_like(X, slope))


def test_a_linen_method_has_the_gradient_of_its_rule() -> None:
    for name, scale in (("linen_method_vjp", 1.0), ("linen_method", 5.0)):
        model: nn.Module = case(name).SignDense(2)
        x = jnp.full((1, 3), 5.0)
        variables = model.init(jax.random.key(0), x)
        gradient: Any = jax.grad(lambda v, m=model, x=x: m.apply(v, x).sum())(variables)
        kernel = gradient["params"]["Dense_0"]["kernel"]
        np.testing.assert_array_equal(kernel, jnp.full((3, 2), scale))
