"""Functions that people write rules for, each with one that is right."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import vjpgen
from tests.power.case import Real, drawn, normal


class Dense(Real):
    """a dense layer"""

    arguments = staticmethod(drawn((3, 4), (4, 4), (4,)))

    @staticmethod
    def primal(x, kernel, bias):
        return x @ kernel + bias

    @staticmethod
    def forward(x, kernel, bias):
        return x @ kernel + bias, (x, kernel)

    @staticmethod
    def backward(saved, g):
        x, kernel = saved
        return g @ kernel.T, x.T @ g, g.sum(0)


class Conv(Real):
    """a convolution"""

    arguments = staticmethod(drawn((1, 4, 4, 2), (3, 3, 2, 2)))

    @staticmethod
    def primal(x, kernel):
        return _conv(x, kernel)

    @staticmethod
    def forward(x, kernel):
        return _conv(x, kernel), (x, kernel)

    @staticmethod
    def backward(saved, g):
        x, kernel = saved
        flipped = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
        kernel_t = _conv(x.transpose(3, 1, 2, 0), g.transpose(1, 2, 0, 3))
        return _conv(jnp.pad(g, _AROUND), flipped), kernel_t.transpose(1, 2, 0, 3)


_AROUND = ((0, 0), (2, 2), (2, 2), (0, 0))


def _conv(x, kernel):
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=layout)


class LayerNorm(Real):
    """layer norm"""

    arguments = staticmethod(drawn((3, 6), (6,), (6,)))

    @staticmethod
    def primal(x, scale, bias):
        return LayerNorm.forward(x, scale, bias)[0]

    @staticmethod
    def forward(x, scale, bias):
        centred = x - x.mean(-1, keepdims=True)
        inverse = lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        normed = centred * inverse
        return normed * scale + bias, (normed, inverse, scale)

    @staticmethod
    def backward(saved, g):
        normed, inverse, scale = saved
        t = g * scale
        along = (t * normed).mean(-1, keepdims=True)
        x_t = inverse * (t - t.mean(-1, keepdims=True) - normed * along)
        return x_t, (g * normed).sum(0), g.sum(0)


class RmsNorm(Real):
    """RMS norm"""

    arguments = staticmethod(drawn((3, 5), (5,)))

    @staticmethod
    def primal(x, scale):
        return RmsNorm.forward(x, scale)[0]

    @staticmethod
    def forward(x, scale):
        inverse = lax.rsqrt((x**2).mean(-1, keepdims=True) + 1e-12)
        return x * inverse * scale, (x, inverse, scale)

    @staticmethod
    def backward(saved, g):
        x, inverse, scale = saved
        normed, t = x * inverse, g * scale
        along = (t * normed).mean(-1, keepdims=True)
        return inverse * (t - normed * along), (g * normed).sum(0)


class CrossEntropy(Real):
    """softmax cross entropy"""

    @staticmethod
    def arguments(rng):
        return normal(rng, (4, 5), 2.0), jnp.asarray(rng.integers(0, 5, 4))

    @staticmethod
    def primal(logits, labels):
        return CrossEntropy.forward(logits, labels)[0]

    @staticmethod
    def forward(logits, labels):
        log_p = jax.nn.log_softmax(logits)
        loss = -jnp.take_along_axis(log_p, labels[:, None], 1).mean()
        return loss, (log_p, labels)

    @staticmethod
    def backward(saved, g):
        log_p, labels = saved
        difference = jnp.exp(log_p) - jax.nn.one_hot(labels, log_p.shape[1], dtype=log_p.dtype)
        return g / len(labels) * difference, None


class Attention(Real):
    """attention that recomputes its weights"""

    arguments = staticmethod(drawn((4, 3), (4, 3), (4, 3)))

    @staticmethod
    def primal(q, k, v):
        return _weights(q, k) @ v

    @staticmethod
    def forward(q, k, v):
        out = _weights(q, k) @ v
        return out, (q, k, v, out)

    @staticmethod
    def backward(saved, g):
        q, k, v, out = saved
        weights = _weights(q, k)
        scores_t = weights * (g @ v.T - (g * out).sum(-1, keepdims=True)) / np.sqrt(3).item()
        return scores_t @ k, scores_t.T @ q, weights.T @ g


def _weights(q, k):
    return jax.nn.softmax(q @ k.T / np.sqrt(3).item())


class FixedPoint(Real):
    """a fixed point, differentiated implicitly"""

    @staticmethod
    def arguments(rng):
        return normal(rng, (3, 3), 0.2), normal(rng, (3,))

    @staticmethod
    def primal(a, x):
        start = jnp.zeros_like(x)
        return lax.scan(lambda z, _: (jnp.tanh(a @ z + x), None), start, None, 60)[0]

    @staticmethod
    def forward(a, x):
        z = FixedPoint.primal(a, x)
        return z, (a, z)

    @staticmethod
    def backward(saved, g):
        a, z = saved
        slope = 1 - z**2
        w = slope * jnp.linalg.solve(jnp.eye(len(z), dtype=z.dtype) - a.T * slope, g)
        return jnp.outer(w, z), w


class Solve(Real):
    """a linear solve"""

    @staticmethod
    def arguments(rng):
        return normal(rng, (4, 4)) + 4 * jnp.eye(4), normal(rng, (4,))

    @staticmethod
    def primal(a, b):
        return jnp.linalg.solve(a, b)

    @staticmethod
    def forward(a, b):
        y = jnp.linalg.solve(a, b)
        return y, (a, y)

    @staticmethod
    def backward(saved, g):
        a, y = saved
        b_t = jnp.linalg.solve(a.T, g)
        return -jnp.outer(b_t, y), b_t


class LogDensity(Real):
    """a Gaussian's log density by Cholesky"""

    @staticmethod
    def arguments(rng):
        root = normal(rng, (4, 4))
        return root @ root.T + 2 * jnp.eye(4), normal(rng, (4,))

    @staticmethod
    def primal(covariance, y):
        return LogDensity.forward(covariance, y)[0]

    @staticmethod
    def forward(covariance, y):
        low = jnp.linalg.cholesky(covariance)
        solved = jax.scipy.linalg.cho_solve((low, True), y)
        return -0.5 * y @ solved - jnp.log(jnp.diag(low)).sum(), (low, solved)

    @staticmethod
    def backward(saved, g):
        low, solved = saved
        inverse = jax.scipy.linalg.cho_solve((low, True), jnp.eye(len(low), dtype=low.dtype))
        return 0.5 * g * (jnp.outer(solved, solved) - inverse), -g * solved


class Embedding(Real):
    """an embedding with repeated ids"""

    @staticmethod
    def arguments(rng):
        return normal(rng, (6, 3)), jnp.array([1, 4, 1, 0, 1])

    @staticmethod
    def primal(table, ids):
        return table[ids]

    @staticmethod
    def forward(table, ids):
        return table[ids], (ids, jnp.zeros_like(table))

    @staticmethod
    def backward(saved, g):
        ids, zeros = saved
        return zeros.at[ids].add(g), None


class SegmentSum(Real):
    """a segment sum"""

    @staticmethod
    def arguments(rng):
        return normal(rng, (6, 2)), jnp.array([0, 2, 0, 1, 2, 2])

    @staticmethod
    def primal(values, segments):
        return jax.ops.segment_sum(values, segments, 3)

    @staticmethod
    def forward(values, segments):
        return jax.ops.segment_sum(values, segments, 3), segments

    @staticmethod
    def backward(segments, g):
        return g[segments], None


class Spectral(Real):
    """a complex layer in Fourier space"""

    @staticmethod
    def arguments(rng):
        return _complex(rng, 8), _complex(rng, 8)

    @staticmethod
    def primal(x, weights):
        return jnp.fft.ifft(jnp.fft.fft(x) * weights)

    @staticmethod
    def forward(x, weights):
        return Spectral.primal(x, weights), (jnp.fft.fft(x), weights)

    @staticmethod
    def backward(saved, g):
        spectrum, weights = saved
        t = jnp.fft.ifft(g)
        return jnp.fft.fft(weights * t), spectrum * t


class Power(Real):
    """a power spectrum"""

    @staticmethod
    def arguments(rng):
        return (_complex(rng, 8),)

    @staticmethod
    def primal(x):
        return jnp.abs(jnp.fft.fft(x)) ** 2

    @staticmethod
    def forward(x):
        spectrum = jnp.fft.fft(x)
        return jnp.abs(spectrum) ** 2, spectrum

    @staticmethod
    def backward(spectrum, g):
        return (jnp.fft.fft(2 * g * spectrum.conj()),)


def _complex(rng, size):
    return jnp.asarray(rng.normal(size=size) + 1j * rng.normal(size=size), jnp.complex64)


class LogSumExp(Real):
    """a log-sum-exp"""

    arguments = staticmethod(drawn((3, 5)))

    @staticmethod
    def primal(x):
        return LogSumExp.forward(x)[0]

    @staticmethod
    def forward(x):
        top = lax.stop_gradient(x.max(-1, keepdims=True))
        total = top + jnp.log(jnp.exp(x - top).sum(-1, keepdims=True))
        return total[:, 0], (x, total)

    @staticmethod
    def backward(saved, g):
        x, total = saved
        return (g[:, None] * jnp.exp(x - total),)


class Tanh(Real):
    """an activation whose slope is computed from its output"""

    arguments = staticmethod(drawn((2, 4)))

    @staticmethod
    def primal(x):
        return jnp.tanh(x)

    @staticmethod
    def forward(x):
        y = jnp.tanh(x)
        return y, y

    @staticmethod
    def backward(y, g):
        return (g * (1 - y**2),)


class LeakyRelu(Real):
    """a leaky ReLU, at both sides of its kink"""

    @staticmethod
    def arguments(rng):
        signs = np.where(np.arange(8) % 2, 1.0, -1.0)
        return (jnp.asarray(signs * rng.uniform(0.1, 2.0, 8), jnp.float32),)

    @staticmethod
    def primal(x):
        return jnp.where(x > 0, x, 0.1 * x)

    @staticmethod
    def forward(x):
        return jnp.where(x > 0, x, 0.1 * x), x > 0

    @staticmethod
    def backward(positive, g):
        return (jnp.where(positive, g, 0.1 * g),)


class UnitRows(Real):
    """rows brought to length one, one of them zero, where autodiff gives nan"""

    @staticmethod
    def arguments(rng):
        return (normal(rng, (6, 4)).at[2].set(0),)

    @staticmethod
    def primal(x):
        return UnitRows.forward(x)[0]

    @staticmethod
    def forward(x):
        size = jnp.sqrt((x**2).sum(-1, keepdims=True))
        size = jnp.where(size > 0, size, jnp.ones_like(size))
        return x / size, (x / size, size, (x != 0).any(-1, keepdims=True))

    @staticmethod
    def backward(saved, g):
        y, size, some = saved
        inner = g - y * (y * g).sum(-1, keepdims=True)
        return (jnp.where(some, inner / size, jnp.zeros_like(g)),)


class Rnn(Real):
    """a recurrent network, backpropagated through time by hand"""

    arguments = staticmethod(drawn((4, 2), (3,), (3, 3), (2, 3), scale=0.7))

    @staticmethod
    def primal(xs, start, w, u):
        return Rnn.forward(xs, start, w, u)[0]

    @staticmethod
    def forward(xs, start, w, u):
        def step(h, x):
            after = jnp.tanh(h @ w + x @ u)
            return after, after

        last, states = lax.scan(step, start, xs)
        return (last, states), (xs, jnp.concatenate([start[None], states]), w, u)

    @staticmethod
    def backward(saved, g):
        xs, states, w, u = saved

        def step(carry, now):
            h_t, w_t, u_t = carry
            x, before, after, state_t = now
            t = (h_t + state_t) * (1 - after**2)
            return (t @ w.T, w_t + jnp.outer(before, t), u_t + jnp.outer(x, t)), t @ u.T

        start = g[0], jnp.zeros_like(w), jnp.zeros_like(u)
        each = xs, states[:-1], states[1:], g[1]
        (start_t, w_t, u_t), xs_t = lax.scan(step, start, each, reverse=True)
        return xs_t, start_t, w_t, u_t


class Recompute(Real):
    """a block that keeps its arguments alone and recomputes the rest"""

    arguments = staticmethod(drawn((3, 4), (4, 5), (5, 2)))

    @staticmethod
    def primal(x, up, down):
        return jax.nn.gelu(x @ up, approximate=False) @ down

    @staticmethod
    def forward(x, up, down):
        return Recompute.primal(x, up, down), (x, up, down)

    @staticmethod
    def backward(saved, g):
        return jax.vjp(Recompute.primal, *saved)[1](g)


class Dropout(Real):
    """dropout that draws its mask again"""

    @staticmethod
    def arguments(rng):
        return normal(rng, (4, 5)), jax.random.key(int(rng.integers(1000)))

    @staticmethod
    def primal(x, key):
        return jnp.where(jax.random.bernoulli(key, 0.7, x.shape), x / 0.7, jnp.zeros_like(x))

    @staticmethod
    def forward(x, key):
        return Dropout.primal(x, key), key

    @staticmethod
    def backward(key, g):
        return Dropout.primal(g, key), None


class Dropped(Real):
    """a dense layer in single precision, whatever its arguments are, under dropout"""

    @staticmethod
    def arguments(rng):
        key = jax.random.key(int(rng.integers(1000)))
        return normal(rng, (3, 4)), normal(rng, (4, 5)), key

    @staticmethod
    def primal(x, kernel, key):
        y = x.astype(jnp.float32) @ kernel.astype(jnp.float32)
        return jnp.where(jax.random.bernoulli(key, 0.5, y.shape), 2 * y, 0).astype(x.dtype)

    @staticmethod
    def forward(x, kernel, key):
        return Dropped.primal(x, kernel, key), (x, kernel, key)

    @staticmethod
    def backward(saved, g):
        x, kernel, key = saved
        t = jnp.where(jax.random.bernoulli(key, 0.5, g.shape), 2 * g, 0)
        return t @ kernel.T, x.T @ t, None


class Metered(Real):
    """a dense layer, and a figure about it in bfloat16"""

    arguments = staticmethod(drawn((3, 4), (4, 5)))

    @staticmethod
    def primal(x, kernel):
        return x @ kernel, jnp.abs(x).max().astype(jnp.bfloat16)

    @staticmethod
    def forward(x, kernel):
        return Metered.primal(x, kernel), (x, kernel)

    @staticmethod
    def backward(saved, g):
        x, kernel = saved
        dense, figure = g
        top = jnp.abs(x) == jnp.abs(x).max()
        return dense @ kernel.T + figure.astype(x.dtype) * jnp.sign(x) * top, x.T @ dense


class Halved(Real):
    """a dense layer that computes in bfloat16"""

    arguments = staticmethod(drawn((3, 4), (4, 5)))

    @staticmethod
    def primal(x, kernel):
        return (x.astype(jnp.bfloat16) @ kernel.astype(jnp.bfloat16)).astype(x.dtype)

    @staticmethod
    def forward(x, kernel):
        return Halved.primal(x, kernel), (x, kernel)

    @staticmethod
    def backward(saved, g):
        x, kernel = (each.astype(jnp.bfloat16) for each in saved)
        t = g.astype(jnp.bfloat16)
        return (t @ kernel.T).astype(g.dtype), (x.T @ t).astype(g.dtype)


class CumSum(Real):
    """a cumulative sum"""

    arguments = staticmethod(drawn((6,)))

    @staticmethod
    def primal(x):
        return jnp.cumsum(x)

    @staticmethod
    def forward(x):
        return jnp.cumsum(x), None

    @staticmethod
    def backward(_, g):
        return (jnp.cumsum(g[::-1])[::-1],)


class Sort(Real):
    """a sort"""

    arguments = staticmethod(drawn((6,)))

    @staticmethod
    def primal(x):
        return jnp.sort(x)

    @staticmethod
    def forward(x):
        order = jnp.argsort(x)
        return x[order], order

    @staticmethod
    def backward(order, g):
        return (jnp.zeros_like(g).at[order].set(g),)


class Moments(Real):
    """mean and variance, two outputs"""

    arguments = staticmethod(drawn((7,)))

    @staticmethod
    def primal(x):
        return x.mean(), x.var()

    @staticmethod
    def forward(x):
        return (x.mean(), x.var()), x - x.mean()

    @staticmethod
    def backward(centred, g):
        mean_t, var_t = g
        return ((mean_t + 2 * var_t * centred) / len(centred),)


class Mlp(Real):
    """a perceptron with a tree of parameters"""

    @staticmethod
    def arguments(rng):
        params = {
            "hidden": {"kernel": normal(rng, (3, 4)), "bias": normal(rng, (4,))},
            "out": {"kernel": normal(rng, (4, 2)), "bias": normal(rng, (2,))},
        }
        return params, normal(rng, (2, 3))

    @staticmethod
    def primal(params, x):
        return Mlp.forward(params, x)[0]

    @staticmethod
    def forward(params, x):
        hidden = jnp.tanh(x @ params["hidden"]["kernel"] + params["hidden"]["bias"])
        return hidden @ params["out"]["kernel"] + params["out"]["bias"], (params, x, hidden)

    @staticmethod
    def backward(saved, g):
        params, x, hidden = saved
        t = (g @ params["out"]["kernel"].T) * (1 - hidden**2)
        params_t = {
            "hidden": {"kernel": x.T @ t, "bias": t.sum(0)},
            "out": {"kernel": hidden.T @ g, "bias": g.sum(0)},
        }
        return params_t, t @ params["hidden"]["kernel"].T


class SoftPlus(Real):
    """a softplus"""

    arguments = staticmethod(drawn((6,), scale=3.0))

    @staticmethod
    def primal(x):
        return jnp.logaddexp(x, jnp.zeros_like(x))

    @staticmethod
    def forward(x):
        return SoftPlus.primal(x), x

    @staticmethod
    def backward(x, g):
        return (g * jax.nn.sigmoid(x),)


class Quantiser(Real):
    """a quantiser that lets gradients straight through its range"""

    arguments = staticmethod(drawn((9,)))

    @staticmethod
    def primal(x):
        return jnp.round(4 * jnp.clip(x, -1, 1)) / 4

    @staticmethod
    def forward(x):
        return Quantiser.primal(x), jnp.abs(x) <= 1

    @staticmethod
    def backward(inside, g):
        return (jnp.where(inside, g, jnp.zeros_like(g)),)


class Normed(Real):
    """a Linen module with batch norm"""

    class Net(nn.Module):
        """Two layers."""

        @nn.compact
        def __call__(self, x):
            x = nn.Dense(4)(x)
            x = nn.BatchNorm(use_running_average=False)(x)
            return nn.Dense(2)(nn.tanh(x))

    @classmethod
    def arguments(cls, rng):
        return cls.Net(), normal(rng, (5, 3))

    @classmethod
    def make(cls, *, primal=None, forward=None, backward=None, by=vjpgen.custom_vjp):
        return super().make(primal=primal, forward=forward, backward=backward, by=by)

    @staticmethod
    def primal(net, x):
        return net(x)

    @staticmethod
    def forward(net, x):
        return vjpgen.vjp(Normed.primal, net, x)

    @staticmethod
    def backward(vjp_fn, g):
        return vjp_fn(g)
