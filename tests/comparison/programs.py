"""What the programs share: values, and how each tool's model is differentiated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (4, 3))
KERNEL = jax.random.normal(jax.random.key(2), (3, 3))
BIAS = jnp.array([0.5, -1.0, 2.0])
PARAMS = {"kernel": KERNEL, "bias": BIAS}
# Each rule makes the gradient of its parameters twice as large, so that its absence shows.
TWICE = 2.0


def twice(tangents: Any) -> Any:
    """Double every tangent: what the rules do to those of their parameters."""
    return jax.tree.map(lambda t: TWICE * t, tangents)


def dense(params: Any, x: Any) -> Any:
    """A dense layer over explicit parameters."""
    return x @ params["kernel"] + params["bias"]


def dense_pullback(kernel: Any, x: Any, y_t: Any) -> tuple[dict[str, Any], Any]:
    """The tangents of a dense layer: of its parameters, and of its input."""
    return {"kernel": x.T @ y_t, "bias": y_t.sum(0)}, y_t @ kernel.T


def square_sum(y: Any) -> Any:
    """The loss of most programs."""
    return (y**2).sum()


def gradients(
    function: Callable[[Any, Any], Any],
    params: Any = PARAMS,
    x: Any = X,
    wrap: Callable[[Any], Any] = lambda loss: loss,
) -> Any:
    """Return the loss and its gradients for a function of parameters and input.

    Args:
        function: takes both.
        params: the parameters.
        x: the input.
        wrap: transforms the loss before it is differentiated.
    """
    loss = lambda p, x: square_sum(function(p, x))  # noqa: E731
    value, (params_t, x_t) = jax.value_and_grad(wrap(loss), (0, 1))(params, x)
    return {"loss": value, "params": params_t, "x": x_t}


def with_twice(function: Callable[[Any, Any], Any], params: Any = PARAMS, x: Any = X) -> Any:
    """Return what `gradients` should give where the rule doubles the parameters' tangents."""
    plain = gradients(function, params, x)
    return {**plain, "params": twice(plain["params"])}


def of_linen(
    module: nn.Module,
    params: Any = None,
    x: Any = X,
    wrap: Callable[[Any], Any] = lambda loss: loss,
    **kwargs: Any,
) -> dict[str, Any]:
    """Return the loss and gradients of a Linen module with one dense layer inside.

    Args:
        module: the module.
        params: its parameters; by default those of one layer, under the name Flax gives it.
        x: its input.
        wrap: transforms the loss before it is differentiated.
        kwargs: further arguments of `apply`.
    """
    given = {"Dense_0": PARAMS} if params is None else params
    apply = lambda p, x: module.apply({"params": p}, x, **kwargs)  # noqa: E731
    found = gradients(apply, given, x, wrap)
    return {**found, "params": found["params"]["Dense_0"]} if params is None else found


def linear() -> nnx.Linear:
    """Make the dense layer as an NNX module."""
    layer = nnx.Linear(3, 3, rngs=nnx.Rngs(0))
    layer.kernel[...] = KERNEL
    assert layer.bias is not None
    layer.bias[...] = BIAS
    return layer


def of_nnx(
    function: Callable[[Any, Any], Any],
    module: Any = None,
    x: Any = X,
    wrap: Callable[[Any], Any] = lambda loss: loss,
) -> dict[str, Any]:
    """Return the loss and gradients of a function of an NNX dense layer and an input."""
    module = linear() if module is None else module
    loss = lambda m, x: square_sum(function(m, x))  # noqa: E731
    value, (module_t, x_t) = nnx.value_and_grad(wrap(loss), argnums=(0, 1))(module, x)
    return {"loss": value, "params": nnx.to_pure_dict(module_t), "x": x_t}


def filled(template: Any, **values: Any) -> Any:
    """Return the tangent of an NNX module: the update's gradient with other values in it."""
    tangent = jax.tree.map(lambda t: t, template)
    for name, value in values.items():
        tangent[name][...] = value
    return tangent


def filled_below(template: Any, name: str, **values: Any) -> Any:
    """Return the tangent of an NNX module of which the layer `name` alone is differentiated."""
    tangent = jax.tree.map(lambda t: t, template)
    for other in set(tangent) - {name}:
        del tangent[other]
    for key, value in values.items():
        tangent[name][key][...] = value
    return tangent


def cloned(module: Any, values: Any, below: str = "") -> Any:
    """Return the tangent of an NNX module where `graph_updates=False`: a module itself."""
    tangent = nnx.clone(module)
    for name, value in values.items():
        getattr(getattr(tangent, below) if below else tangent, name)[...] = value
    return tangent
