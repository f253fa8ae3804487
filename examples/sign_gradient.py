"""Train with the sign of each parameter's gradient, the rule of Flax's documentation, by SGD."""

import sys

import digits
import optax
from models import sign_gradient as source
from models import sign_gradient_vjp as generated

STATED = 0.95
RULE, PLAIN = "sign gradient", "plain autodiff"


def gradient_norm(variables, gradient, images, labels):
    """Measure the length of the gradient that the optimiser is given."""
    return {"norm": optax.global_norm(gradient)}


def main() -> int:
    options = digits.arguments(__doc__, epochs=30)
    # The rule's gradient never gets shorter, so its learning rate has to be small and to fall.
    histories = digits.fit(
        {
            RULE: (generated.Classifier(), optax.sgd(digits.falling(0.003, options.epochs))),
            PLAIN: (source.Classifier(), optax.sgd(0.1)),
        },
        digits.load(),
        epochs=options.epochs,
        seed=options.seed,
        probes={RULE: gradient_norm, PLAIN: gradient_norm},
    )
    drawn, (left, right) = digits.figure(2)
    digits.plot_accuracy(left, histories, STATED)
    for (name, history), style in zip(histories.items(), digits.STYLES, strict=True):
        epochs, norm = digits.epochs_of(history), history.probes["norm"]
        right.semilogy(epochs, norm, **style, alpha=0.3, linewidth=0.6)
        right.semilogy(epochs, digits.smooth(norm), **style, label=name)
    right.set(xlabel="epoch", ylabel="norm of the gradient", xlim=(0, options.epochs))
    right.legend()
    path = options.output / "sign_gradient.png"
    return digits.finish(drawn, path, histories, rule=RULE, stated=STATED)


if __name__ == "__main__":
    sys.exit(main())
