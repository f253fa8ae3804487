"""What the examples share: the handwritten digits, the training loop, the figure and the verdict.

Each example trains two models side by side: the one of the generated module, with the rule, and
the one of its source, which is the same model under plain autodiff. Both start from the same key
and see the same batches in the same order.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import optax
from flax.core import pop
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

BATCH = 32
STEPS = 42  # in an epoch: what the 1,347 images for training fill of it

RULE_COLOUR = "#0b6fb8"
PLAIN_COLOUR = "#8a8a8a"
SECOND_COLOUR = "#d1603d"
STYLES: tuple[dict[str, Any], ...] = (  # of the rule, then of plain autodiff
    {"color": RULE_COLOUR},
    {"color": PLAIN_COLOUR, "linestyle": (0, (5, 2))},
)

Variables = Any  # a dict of collections
Probe = Callable[[Variables, Variables, jax.Array, jax.Array], dict[str, jax.Array]]


@dataclass(frozen=True)
class Digits:
    """1,797 images of 8 x 8 pixels, each a row of 64 values in [0, 1]; a quarter is for testing."""

    train_images: jax.Array
    train_labels: jax.Array
    test_images: jax.Array
    test_labels: jax.Array


@dataclass(frozen=True)
class History:
    """What one training left behind."""

    variables: Variables
    accuracy: np.ndarray  # on the test images: before the first epoch, then after each
    loss: np.ndarray  # one value a step
    probes: dict[str, np.ndarray]  # one value a step


def load() -> Digits:
    """Load scikit-learn's digits, split in one fixed way."""
    digits: Any = load_digits()
    images = (digits.data / 16.0).astype(np.float32)
    labels = digits.target.astype(np.int32)
    parts = train_test_split(images, labels, test_size=0.25, stratify=labels, random_state=0)
    train_images, test_images, train_labels, test_labels = map(jnp.asarray, parts)
    return Digits(train_images, train_labels, test_images, test_labels)


def arguments(description: str | None, *, epochs: int) -> argparse.Namespace:
    """Read the command line that all examples share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--epochs", type=int, default=epochs, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(__file__).parent / "plots",
        metavar="DIR",
        help="where the plot is saved (default: examples/plots)",
    )
    options = parser.parse_args()
    if options.epochs < 1:
        parser.error("--epochs must be at least 1")
    return options


def loss_of(model: nn.Module, variables: Variables, images: jax.Array, labels: jax.Array):
    """Return the mean cross entropy of the model on a batch."""
    logits: Any = model.apply(variables, images)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def gradient_of(model: nn.Module, variables: Variables, images: jax.Array, labels: jax.Array):
    """Return the loss and its gradient in the parameters; other collections are constants."""
    state, params = pop(variables, "params")
    return jax.value_and_grad(lambda p: loss_of(model, {"params": p, **state}, images, labels))(
        params
    )


class _Training:
    """One model on its way through the epochs."""

    def __init__(
        self,
        model: nn.Module,
        optimiser: optax.GradientTransformation,
        digits: Digits,
        seed: int,
        probe: Probe | None,
    ) -> None:
        variables = model.init(jax.random.key(seed), digits.train_images[:1])

        def step(carry, rows):
            variables, memory = carry
            images, labels = digits.train_images[rows], digits.train_labels[rows]
            loss, gradient = gradient_of(model, variables, images, labels)
            probed = probe(variables, gradient, images, labels) if probe else {}
            updates, memory = optimiser.update(gradient, memory, variables["params"])
            params = optax.apply_updates(variables["params"], updates)
            return ({**variables, "params": params}, memory), (loss, probed)

        @jax.jit
        def epoch(carry, key):
            order = jax.random.permutation(key, len(digits.train_images))
            return jax.lax.scan(step, carry, order[: STEPS * BATCH].reshape(STEPS, BATCH))

        @jax.jit
        def accuracy(variables):
            logits: Any = model.apply(variables, digits.test_images)
            return (logits.argmax(-1) == digits.test_labels).mean()

        self._epoch, self._accuracy = epoch, accuracy
        self._carry = (variables, optimiser.init(variables["params"]))
        self._curves: list[Any] = []
        self.accuracies = [float(accuracy(variables))]

    def advance(self, key: jax.Array) -> str:
        """Train for one epoch and return a line about it."""
        self._carry, curves = self._epoch(self._carry, key)
        self._curves.append(jax.device_get(curves))
        self.accuracies.append(float(self._accuracy(self._carry[0])))
        return f"loss {self._curves[-1][0].mean():6.3f}  test {self.accuracies[-1]:6.1%}"

    def history(self) -> History:
        """Return all that was recorded."""
        loss, probes = jax.tree.map(lambda *parts: np.concatenate(parts), *self._curves)
        return History(self._carry[0], np.array(self.accuracies), loss, probes)


def fit(
    models: Mapping[str, tuple[nn.Module, optax.GradientTransformation]],
    digits: Digits,
    *,
    epochs: int,
    seed: int,
    probes: Mapping[str, Probe] | None = None,
) -> dict[str, History]:
    """Train the models side by side, each with its optimiser, one line of progress an epoch.

    A probe is called at each step as ``probe(variables, gradient, images, labels)``, before the
    step is taken, and what it returns is recorded.
    """
    started = time.perf_counter()
    runs = {
        name: _Training(model, optimiser, digits, seed, (probes or {}).get(name))
        for name, (model, optimiser) in models.items()
    }
    width = max(len(str(epochs)), 3)
    print(f"{'epoch':>{2 * width + 1}}  " + "  ".join(f"{name:>27}" for name in runs), flush=True)
    for number, key in enumerate(jax.random.split(jax.random.key(seed + 1), epochs), start=1):
        lines = "  ".join(f"{run.advance(key):>27}" for run in runs.values())
        print(f"{number:>{width}}/{epochs:<{width}}  {lines}", flush=True)
    print(f"trained in {time.perf_counter() - started:.1f} s", flush=True)
    return {name: run.history() for name, run in runs.items()}


def falling(rate: float, epochs: int) -> optax.Schedule:
    """Return a learning rate that falls to zero over the epochs, along a cosine."""
    return optax.cosine_decay_schedule(rate, STEPS * epochs)


def smooth(curve: np.ndarray, window: int = STEPS) -> np.ndarray:
    """Average a curve over a window around each step, shorter at the ends."""
    weights = np.ones(min(window, len(curve)))
    return np.convolve(curve, weights, "same") / np.convolve(np.ones(len(curve)), weights, "same")


def figure(panels: int) -> tuple[Figure, list[Axes]]:
    """Return a figure with a row of panels."""
    mpl.rcParams.update(
        {
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.alpha": 0.25,
            "legend.frameon": False,
            "lines.linewidth": 1.6,
        }
    )
    made = Figure(figsize=(3.6 * panels, 2.9), layout="constrained")
    return made, list(made.subplots(1, panels))


def plot_accuracy(axes: Axes, histories: Mapping[str, History], stated: float) -> None:
    """Draw the test accuracy of both models over the epochs, and the stated one."""
    for (name, history), style in zip(histories.items(), STYLES, strict=True):
        axes.plot(100 * history.accuracy, label=name, **style)
    axes.axhline(100 * stated, color="black", linewidth=0.8, linestyle=":", label="stated")
    lowest = min(100 * history.accuracy[-1] for history in histories.values())
    axes.set(xlabel="epoch", ylabel="test accuracy (%)", ylim=(min(70, lowest - 10), 100.5))
    axes.set_xlim(0, max(len(history.accuracy) for history in histories.values()) - 1)
    axes.legend(loc="lower right")


def epochs_of(history: History) -> np.ndarray:
    """Return the steps' places on an axis that counts epochs."""
    return np.arange(len(history.loss)) / STEPS


def finish(
    drawn: Figure, path: Path, histories: Mapping[str, History], *, rule: str, stated: float
) -> int:
    """Save the figure, print the accuracies and return the exit status."""
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(path, dpi=200)
    for name, history in histories.items():
        print(f"test accuracy, {name}: {history.accuracy[-1]:.1%}")
    print(f"plot: {path}")
    reached = histories[rule].accuracy[-1]
    if reached >= stated:
        print(f"reached the stated {stated:.0%}")
        return 0
    print(f"{rule}: {reached:.1%} misses the stated {stated:.0%}", file=sys.stderr)
    return 1
