"""Train a network that learns through fixed random feedback weights (Lillicrap et al., 2016)."""

import sys

import digits
import jax.numpy as jnp
import optax
from models import feedback_alignment as source
from models import feedback_alignment_vjp as generated

STATED = 0.94
RULE, PLAIN = "feedback alignment", "plain autodiff"
LAYERS = {"FeedbackDense_0": "first hidden layer", "FeedbackDense_1": "second hidden layer"}


def angles(variables, gradient, images, labels):
    """Measure the angle between the rule's gradient and the true one, for each hidden layer."""
    _, true = digits.gradient_of(source.Classifier(), variables, images, labels)

    def angle(layer):
        a, b = gradient[layer]["Dense_0"]["kernel"], true[layer]["Dense_0"]["kernel"]
        cosine = jnp.vdot(a, b) / (jnp.linalg.norm(a) * jnp.linalg.norm(b))
        return jnp.degrees(jnp.arccos(jnp.clip(cosine, -1, 1)))

    return {layer: angle(layer) for layer in LAYERS}


def main() -> int:
    options = digits.arguments(__doc__, epochs=30)
    optimiser = optax.sgd(0.05, momentum=0.9)
    histories = digits.fit(
        {RULE: (generated.Classifier(), optimiser), PLAIN: (source.Classifier(), optimiser)},
        digits.load(),
        epochs=options.epochs,
        seed=options.seed,
        probes={RULE: angles},
    )
    drawn, (left, right) = digits.figure(2)
    digits.plot_accuracy(left, histories, STATED)
    epochs = digits.epochs_of(histories[RULE])
    for (layer, name), colour in zip(
        LAYERS.items(), (digits.RULE_COLOUR, digits.SECOND_COLOUR), strict=True
    ):
        angle = histories[RULE].probes[layer]
        right.plot(epochs, angle, color=colour, alpha=0.2, linewidth=0.6)
        right.plot(epochs, digits.smooth(angle), color=colour, label=name)
    right.axhline(90, color="black", linewidth=0.8, linestyle=":", label="right angle")
    right.set(xlabel="epoch", ylabel="angle to the true gradient (degrees)", ylim=(0, 110))
    right.set_xlim(0, options.epochs)
    right.legend(loc="lower left")
    path = options.output / "feedback_alignment.png"
    return digits.finish(drawn, path, histories, rule=RULE, stated=STATED)


if __name__ == "__main__":
    sys.exit(main())
