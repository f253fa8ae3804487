"""Direct feedback alignment: every layer gets the output's error at once (Nokland, 2016)."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax


def hidden(layer, x):
    """Apply one hidden layer."""
    return nn.tanh(layer(x))


class DirectFeedback(nn.Module):
    """A multilayer perceptron; the error is broadcast to the layers by fixed random matrices."""

    widths: Sequence[int]
    classes: int

    def setup(self):
        self.layers = [nn.Dense(width) for width in self.widths]
        self.readout = nn.Dense(self.classes)
        draw = nn.initializers.lecun_normal()
        self.feedback = [
            self.variable(
                "feedback",
                f"matrix_{n}",
                lambda width=width: draw(self.make_rng("params"), (self.classes, width)),
            )
            for n, width in enumerate(self.widths)
        ]

    # custom-vjp: fwd=keep_inputs, bwd=broadcast, example=example
    # custom-vjp: surrogate=params, exact=params.readout, zero=x
    def __call__(self, x):
        return self.keep_inputs(x)[0]

    def keep_inputs(self, x):
        """Compute the output; save the input of each layer."""
        inputs = [x]
        for layer in self.layers:
            inputs.append(hidden(layer, inputs[-1]))
        return self.readout(inputs[-1]), inputs

    def broadcast(self, inputs, error):
        """Differentiate each layer on its own, at the error that its matrix hands it."""
        *below, last = inputs
        tangents = {"readout": nn.vjp(nn.Dense.__call__, self.readout, last)[1](error)[0]}
        for n, (layer, matrix, x) in enumerate(zip(self.layers, self.feedback, below, strict=True)):
            _, layer_vjp = nn.vjp(hidden, layer, x)
            tangents[f"layers_{n}"], _ = layer_vjp(error @ matrix.value)
        return {"params": {name: t["params"] for name, t in tangents.items()}}, None


def example(key):
    """Return a network and a batch."""
    return DirectFeedback((5, 4), 2), jax.random.normal(key, (3, 6))
