import jax


def loss(params, batch):
    scale = 1 / len(batch)

    def root_fwd(x):
        y = root(x)
        return y, y

    def root_bwd(y, y_t):
        return (y_t * scale / (2 * y),)

    # custom-vjp: fwd=root_fwd, bwd=root_bwd
    @jax.jit
    def root(x):
        def helper(x):
            # custom-vjp: bwd=inner_bwd
            def inner(x, _):
                return x

            def inner_bwd(vjp_fn, y_t):
                return vjp_fn(y_t)

            return inner(x, None)

        return helper(x) ** 0.5
        # The end of it.

    return root(params * batch).sum()
