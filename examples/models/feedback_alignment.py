"""A network that learns through random feedback weights, after Lillicrap et al. (2016)."""

import flax.linen as nn
import jax


class FeedbackDense(nn.Module):
    """A dense layer that sends its error back through a fixed random matrix."""

    features: int

    @nn.compact
    def __call__(self, x):
        def random_matrix():
            draw = nn.initializers.lecun_normal()
            return draw(self.make_rng("params"), (self.features, x.shape[-1]))

        feedback = self.variable("feedback", "kernel", random_matrix).value

        # custom-vjp: fwd=fwd, bwd=bwd, exact=dense, surrogate=x, example=example
        def f(dense, x):
            return dense(x)

        def fwd(dense, x):
            y, vjp_fn = nn.vjp(f, dense, x)
            return y, (vjp_fn, feedback)

        def bwd(residuals, y_t):
            vjp_fn, feedback = residuals
            params_t, _ = vjp_fn(y_t)
            return params_t, y_t @ feedback  # autodiff would give y_t @ kernel.T

        return f(nn.Dense(self.features), x)


def example(key):
    """Give vjpgen a layer and a batch to inspect and verify the rule on."""
    return FeedbackDense(64), jax.random.uniform(key, (128, 64))


class Classifier(nn.Module):
    """Two hidden layers and ten classes."""

    width: int = 64

    @nn.compact
    def __call__(self, x):
        x = nn.tanh(FeedbackDense(self.width)(x))
        x = nn.tanh(FeedbackDense(self.width)(x))
        return FeedbackDense(10)(x)
