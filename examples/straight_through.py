"""Train a network of three-valued weights and activations (Bengio et al., 2013)."""

import sys

import digits
import jax.numpy as jnp
import optax
from models import straight_through as source
from models import straight_through_vjp as generated

STATED = 0.92
BITS = 2  # three values: -1, 0 and 1
RULE, PLAIN = "straight through", "plain autodiff"


def hidden_weights(variables, gradient, images, labels):
    """Record the quantised weights of both hidden layers."""
    layers = (variables["params"][name] for name in ("QuantisedDense_0", "QuantisedDense_1"))
    weights = [source.quantise(layer["kernel"], BITS).ravel() for layer in layers]
    return {"weights": jnp.concatenate(weights).astype(jnp.int8)}


def main() -> int:
    options = digits.arguments(__doc__, epochs=30)
    optimiser = optax.adam(digits.falling(0.01, options.epochs))
    histories = digits.fit(
        {
            RULE: (generated.Classifier(bits=BITS), optimiser),
            PLAIN: (source.Classifier(bits=BITS), optimiser),
        },
        digits.load(),
        epochs=options.epochs,
        seed=options.seed,
        probes={RULE: hidden_weights, PLAIN: hidden_weights},
    )
    drawn, (left, right) = digits.figure(2)
    digits.plot_accuracy(left, histories, STATED)
    for (name, history), style in zip(histories.items(), digits.STYLES, strict=True):
        weights = history.probes["weights"]
        moved = 100 * (weights != weights[0]).mean(axis=1)
        right.plot(digits.epochs_of(history), moved, **style, label=name)
    right.set(
        xlabel="epoch",
        ylabel="quantised weights that moved (%)",
        xlim=(0, options.epochs),
        ylim=(-2, None),
    )
    right.legend(loc="center right")
    path = options.output / "straight_through.png"
    return digits.finish(drawn, path, histories, rule=RULE, stated=STATED)


if __name__ == "__main__":
    sys.exit(main())
