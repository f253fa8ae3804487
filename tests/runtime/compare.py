"""Compare trees: structure, dtype, value."""

from __future__ import annotations

import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# with jax's new rule machinery a rule's function is compiled where all else runs eagerly, and XLA
# rounds what it compiles differently
_ROUNDED = 1e-5 if os.environ.get("JAX_CUSTOM_VJP3", "0") not in ("", "0") else 0.0


def _plain(value: Any) -> Any:
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return np.asarray(jax.random.key_data(value))
    return np.asarray(value) if isinstance(value, (jax.Array, np.ndarray)) else value


def assert_same(actual: Any, expected: Any, rtol: float = 0.0) -> None:
    """Assert equal structure, dtypes and values; `rtol` 0: bit for bit where jax allows it."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    rtol = max(rtol, _ROUNDED)
    found = jax.tree_util.tree_leaves_with_path(actual)
    for (path, left), right in zip(found, jax.tree.leaves(expected), strict=True):
        left, right = _plain(left), _plain(right)
        where = jax.tree_util.keystr(path)
        if not isinstance(left, np.ndarray):
            assert left == right, where
            assert type(left) is type(right), where
            continue
        assert left.dtype == right.dtype, where
        if rtol and jnp.issubdtype(left.dtype, jnp.inexact):
            np.testing.assert_allclose(left, right, rtol=rtol, atol=rtol, err_msg=where)
        else:
            np.testing.assert_array_equal(left, right, err_msg=where)


def double(tree: Any) -> Any:
    """Turn the floats of a tree into 64-bit floats."""
    return jax.tree.map(
        lambda x: x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree
    )
