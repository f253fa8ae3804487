"""Train a deep equilibrium layer through its fixed point (Bai et al., 2019)."""

import sys
from typing import Any

import digits
import jax
import optax
from models import implicit_fixed_point as source
from models import implicit_fixed_point_vjp as generated

STATED = 0.95
RULE, PLAIN = "implicit gradient", "plain autodiff"
ITERATIONS = (10, 20, 40, 80)  # of the layer, for which memory is measured


def working_memory(module, iterations, data):
    """Return the MiB of working memory that the compiled gradient of the training images takes."""
    model = module.Classifier(iterations=iterations)
    variables = model.init(jax.random.key(0), data.train_images[:1])
    step = jax.jit(lambda *batch: digits.gradient_of(model, *batch))
    compiled = step.lower(variables, data.train_images, data.train_labels).compile()
    memory: Any = compiled.memory_analysis()
    return memory.temp_size_in_bytes / 2**20


def main() -> int:
    options = digits.arguments(__doc__, epochs=30)
    data = digits.load()
    optimiser = optax.adam(digits.falling(0.003, options.epochs))
    modules = {RULE: generated, PLAIN: source}
    histories = digits.fit(
        {name: (module.Classifier(), optimiser) for name, module in modules.items()},
        data,
        epochs=options.epochs,
        seed=options.seed,
    )
    drawn, (left, right) = digits.figure(2)
    digits.plot_accuracy(left, histories, STATED)
    for (name, module), style in zip(modules.items(), digits.STYLES, strict=True):
        memory = [working_memory(module, iterations, data) for iterations in ITERATIONS]
        right.plot(ITERATIONS, memory, **style, marker="o", markersize=4, label=name)
    right.set(xlabel="iterations of the layer", ylabel="working memory of the gradient (MiB)")
    right.set_ylim(0, None)
    right.legend(loc="upper left")
    path = options.output / "implicit_fixed_point.png"
    return digits.finish(drawn, path, histories, rule=RULE, stated=STATED)


if __name__ == "__main__":
    sys.exit(main())
