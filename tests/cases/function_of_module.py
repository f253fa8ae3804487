import flax.linen as nn


def apply_fwd(mdl, x):
    return nn.vjp(apply, mdl, x)


def apply_bwd(vjp_fn, y_t):
    variables_t, x_t = vjp_fn(y_t)
    return {"params": variables_t["params"]}, x_t


# custom-vjp: fwd=apply_fwd, bwd=apply_bwd, missing=zero
def apply(mdl: nn.Module, x):
    return mdl(x)


# custom-vjp: bwd=pair_bwd
def pair(modules: tuple[nn.Module, nn.Module], x):
    first, second = modules
    return second(first(x))


def pair_bwd(vjp_fn, y_t):
    return vjp_fn(y_t)
