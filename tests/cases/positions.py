"""Every place that an annotation can stand in."""

import functools

import jax


def bwd(vjp_fn, y_t):
    return vjp_fn(y_t)


# Above the function, other comments around it.
# custom-vjp: bwd=bwd
# And below.
def above(x):
    return x


# custom-vjp: bwd=bwd  # with a reason
@jax.jit
def above_decorator(x):
    return x


@jax.jit
# custom-vjp: bwd=bwd
@functools.partial(jax.jit, static_argnums=())
def between_decorators(x):
    return x


@functools.partial(
    jax.jit,
    static_argnums=(),
)
# custom-vjp: bwd=bwd
def below_decorators(x):
    return x


def end_of_signature(x):  # custom-vjp: bwd=bwd
    return x


def end_of_long_signature(
    x,  # an argument
    y=(1, 2),
):  # custom-vjp: bwd=bwd
    # A comment of the body.
    return x


def one_line(x): return x  # custom-vjp: bwd=bwd  # fmt: skip


# custom-vjp: grad_vars=(params,
# custom-vjp:            batch_stats),
# custom-vjp: bwd=bwd
def several_lines(x):
    return x


class Holder:
    def first(self):
        return None

    # custom-vjp: bwd=bwd
    def second(self, x):
        return x


try:
    # custom-vjp: bwd=bwd
    def in_try(x):
        return x

except ImportError:
    pass
else:
    for _ in range(1):
        # custom-vjp: bwd=bwd
        def in_loop(x):
            return x
