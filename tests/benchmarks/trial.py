"""Try every variant of a workload before it is measured: can it do it, and is it right?"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from tests.benchmarks.variants import (
    DROP_IN,
    GENERATED,
    HAND,
    PLAIN,
    UNSHARED,
    Candidate,
    around,
    candidate,
    clear_caches,
    variants,
)
from tests.benchmarks.workloads import Workload

# Those that can do every workload: where one cannot, that is a bug and no figure.
ABLE = (PLAIN, HAND, GENERATED, UNSHARED, DROP_IN)
# Times and compiles a traced gradient.
Compile = Callable[[str, Any], Any]


@dataclasses.dataclass(frozen=True)
class Trial:
    """What came of trying.

    Args:
        candidates: the variants that can do the workload.
        compiled: their compiled gradients.
        reasons: why the others cannot: the first line of what they raised.
    """

    candidates: Mapping[str, Candidate]
    compiled: Mapping[str, Any]
    reasons: Mapping[str, str]


def tried(workload: Workload, compile_: Compile | None, eager: bool) -> Trial:
    """Take the gradient in every variant, compiled or eagerly, and compare it with autodiff's.

    Args:
        workload: what is computed.
        compile_: compiles a variant's traced gradient; None where that takes too long.
        eager: whether to run eagerly what is compiled, too.

    Raises:
        Exception: one of `ABLE` fails.
    """
    candidates: dict[str, Candidate] = {}
    compiled: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    expected: list[Any] = []

    def compare(found: Any) -> None:
        if not expected:  # the first is plain autodiff's
            expected.append(found)
        assert_same(found, expected[0])

    def compile_one(name: str) -> None:
        if compile_:
            clear_caches()
            one = candidates[name]
            traced = jax.jit(one.gradient()).trace(*one.arguments)
            compiled[name] = compile_(name, traced)
            compare(one.comparable(compiled[name](*one.arguments)))

    def run_eagerly(name: str) -> None:
        one = candidates[name]
        compare(one.comparable(one.gradient()(*one.arguments)))

    def make(name: str) -> None:
        candidates[name] = candidate(name, workload)

    # All are compiled before the first runs eagerly: what JAX compiles for that is kept for all.
    steps = [make, compile_one, run_eagerly] if eager or not compile_ else [make, compile_one]
    for step in steps:
        for name in variants():
            if name not in reasons:
                reason = _failure(step, name)
                reasons |= {name: reason} if reason else {}
    able = [name for name in variants() if name not in reasons]
    return Trial(
        {name: candidates[name] for name in able},
        {name: compiled[name] for name in able if compile_},
        reasons,
    )


def assert_same(found: Any, expected: Any) -> None:
    """Fail where gradients or updates are not plain autodiff's; both as `comparable` has them."""
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(expected), strict=True
    ):
        if not np.allclose(a, b, rtol=1e-3, atol=1e-5):
            where = jax.tree_util.keystr(path[1:], simple=True, separator=".")
            what = "gradient" if path[0] == jax.tree_util.SequenceKey(0) else "update"
            raise AssertionError(f"another {what} than plain autodiff's, of {where}")


def first_line(error: Exception) -> str:
    """An exception in a line that can be quoted: its type and the first line of what it says."""
    lines = str(error).replace("`", "'").strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _failure(step: Callable[[str], None], name: str) -> str:
    try:
        with around(name):
            step(name)
    except Exception as error:
        if name in ABLE:
            raise
        return first_line(error)
    return ""
