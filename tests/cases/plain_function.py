import jax.numpy as jnp


# custom-vjp: fwd=clip_fwd, bwd=clip_bwd, nondiff_argnums=(1, 2)
def clip(x, low, high):
    return jnp.clip(x, low, high)


def clip_fwd(x, low, high):
    return clip(x, low, high), None


def clip_bwd(low, high, residuals, y_t):
    return (y_t,)
