import flax.linen as nn
import jax.numpy as jnp


class Fp8Dense(nn.Module):
    # custom-vjp: bwd=dense_bwd, grad_vars=(params, "fp8"), example=make_example
    # custom-vjp: exact=params.kernel, surrogate=(x,), zero="mask", state=fp8
    @nn.compact
    def __call__(self, x, mask):
        return nn.Dense(4)(x) * mask

    @staticmethod
    def make_example():
        return Fp8Dense(), jnp.ones((2, 3)), jnp.ones(())


def dense_bwd(vjp_fn, y_t):
    return vjp_fn(y_t)


def example(key=None):
    return (jnp.ones(3),)


# custom-vjp: bwd=dense_bwd, exact=True, example=example
# custom-vjp: grad_vars=nn.DenyList(intermediates), target=function
def identity(x):
    return x
