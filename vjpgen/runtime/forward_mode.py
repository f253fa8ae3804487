"""Forward mode, which no rule has: JAX's error, said for the function that it is about."""

from __future__ import annotations

from vjpgen.runtime.rule import Rule

# What every version says of the matter: "can't apply forward-mode autodiff (jvp) to a custom_vjp".
_WORDS = "(jvp) to a custom_vjp function"


def is_forward_mode(error: TypeError) -> bool:
    """Tell whether JAX raised `error` since a `jax.custom_vjp` has no forward mode."""
    return _WORDS in str(error)


def forward_mode_error(rule: Rule) -> TypeError:
    """Make the error for forward-mode autodiff of the function of `rule`.

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.custom_vjp.html
    """
    return TypeError(
        f"can't apply forward-mode autodiff (jvp, jacfwd) to {rule.title}: its gradient is a rule, "
        "a custom_vjp function, which gives the backward pass alone; use jax.grad, jax.vjp or "
        "jax.jacrev, of a Hessian jax.jacrev(jax.jacrev(f)), or vjpgen.primal(f) for forward mode "
        "of the function without its rule"
    )
