"""Outcomes are told apart: a program that does wrong is never called right."""

from __future__ import annotations

import warnings

import jax.numpy as jnp
import pytest

from tests.comparison.outcomes import NotAvailable, Refused, outcome

RIGHT = {"a": jnp.ones(2)}


def warned(value):
    warnings.warn("something is dropped", UserWarning, stacklevel=1)
    return value


def raised(error):
    raise error


def endless():
    return endless()


@pytest.mark.parametrize(
    ("program", "names", "text"),
    [
        (lambda: {"a": jnp.ones(2)}, None, "right"),
        (lambda: warned({"a": jnp.ones(2)}), None, "right"),
        (lambda: {"a": jnp.array([1.0, 1.01])}, None, "wrong value, silently"),
        (lambda: {"a": jnp.ones((1, 2))}, None, "another shape, silently"),
        (lambda: {"a": jnp.array([1.0, jnp.nan])}, None, "wrong value, silently"),
        (lambda: warned({"a": jnp.zeros(2)}), None, "wrong value, with a warning"),
        (lambda: warned({"a": jnp.zeros(2)}), "dropped", "names it (`UserWarning`)"),
        (lambda: warned({"a": jnp.zeros(2)}), "kernel", "wrong value, with a warning"),
        (lambda: {"a": jnp.ones(2, jnp.bfloat16)}, None, "another dtype, silently"),
        (lambda: {"b": jnp.ones(2)}, None, "another structure, silently"),
        (lambda: raised(KeyError("x")), None, "`KeyError: 'x'`"),
        (
            lambda: raised(ValueError("at 0x7f3 | in /a/b/c.py")),
            None,
            "`ValueError: at 0x… \\| in c.py`",
        ),
        (lambda: raised(ValueError("no kernel")), "kernel", "names it (`ValueError`)"),
        (lambda: raised(NotAvailable("why")), "why", "not available"),
        (lambda: raised(Refused("VJP206")), None, "refused (`VJP206`)"),
        (endless, None, "endless recursion"),
    ],
)
def test_each_kind_of_outcome(program, names, text):
    assert outcome(program, RIGHT, names).text == text


def test_what_should_have_been_refused_is_not_right():
    assert outcome(lambda: jnp.ones(2), None, "kernel").text == "accepted, silently"
