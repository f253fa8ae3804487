"""Hosts: modules that make a layer and call it, each through a rule that is the vjp function.

Without vjpgen each host is the plain layer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn


def identity(vjp_fn, y_t):
    return vjp_fn(y_t)


# custom-vjp: bwd=identity
def call_layer(mdl, *args, **kwargs):
    return mdl(*args, **kwargs)


class Function(nn.Module):
    """The layer is the argument of a function at module level."""

    make: Callable[[], Any]

    @nn.compact
    def __call__(self, *args, **kwargs):
        return call_layer(self.make(), *args, **kwargs), draw(self)


class Nested(nn.Module):
    """Function and rule are nested in the method; the gradient takes in every collection."""

    make: Callable[[], Any]

    @nn.compact
    def __call__(self, *args, **kwargs):
        # custom-vjp: bwd=bwd, grad_vars=True, missing=autodiff
        def call(mdl, *args):
            return mdl(*args, **kwargs)

        def bwd(vjp_fn, y_t):
            return vjp_fn(y_t)

        return call(self.make(), *args), draw(self)


class Method(nn.Module):
    """The rule is on the host's own method, which makes the layer."""

    make: Callable[[], Any]

    # custom-vjp: bwd=identity, grad_vars=True, missing=autodiff
    @nn.compact
    def __call__(self, *args, **kwargs):
        return self.make()(*args, **kwargs), draw(self)


class Plain(nn.Module):
    """No rule here: it is on the layer's own method, or on none."""

    make: Callable[[], Any]

    @nn.compact
    def __call__(self, *args, **kwargs):
        return self.make()(*args, **kwargs), draw(self)


def draw(module):
    """Draw once more after the layer: the same number only if the layer left the same counter."""
    return module.make_rng("dropout") if module.has_rng("dropout") else None


def subclass(base):
    """Return `base` with a rule on its `__call__`."""

    class Layer(base):
        # custom-vjp: bwd=identity
        def __call__(self, *args, **kwargs):
            return super().__call__(*args, **kwargs)

    Layer.__name__ = base.__name__
    return Layer
