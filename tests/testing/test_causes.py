"""What a wrong gradient is likely to be caused by."""

from __future__ import annotations

import numpy as np
import pytest

from vjpgen.testing.causes import Case, cause_of
from vjpgen.testing.tolerances import tolerance_of

DRAW = np.random.default_rng(0)
REAL = DRAW.normal(size=(6, 4, 4))
OTHER = DRAW.normal(size=(6, 4, 4))
COMPLEX = DRAW.normal(size=(6, 4)) + 1j * DRAW.normal(size=(6, 4))
VALUE = DRAW.normal(size=(4, 4))


def cause(custom, reference=REAL, value=VALUE):
    case = Case(custom, reference, tolerance_of(np.float64), value, {"w": OTHER}, {32: "axis 0"})
    return cause_of(case)


def with_zero_row():
    custom = REAL.copy()
    custom[:, 2] = 0
    return custom


def with_one_off():
    custom = REAL.copy()
    custom[:, 1, 3] *= 3
    return custom


@pytest.mark.parametrize(
    ("custom", "expected"),
    [
        (-REAL, "wrong sign"),
        (2 * REAL, "a factor of 2 too much"),
        (REAL / 3, "a factor of 3 is missing"),
        (-REAL / 3, "wrong sign and a factor of 3 is missing"),
        (32 * REAL, "32 times too large, the size of axis 0: a sum where a mean is due"),
        (REAL / 32, "32 times too small, the size of axis 0: a mean where a sum is due"),
        (0 * REAL, "zero where it is not"),
        (REAL.swapaxes(1, 2), "it is the transpose of what it is to be"),
        (2 * REAL.swapaxes(1, 2), "it is the transpose times 2"),
        (OTHER, "it is the gradient of `w`: tangents are swapped"),
        (np.broadcast_to(REAL.sum(1, keepdims=True), REAL.shape), "it is summed over axis 0"),
        (np.broadcast_to(REAL.mean(2, keepdims=True), REAL.shape), "it is averaged over axis 1"),
        (REAL[:, ::-1], "it is reversed along axis 0"),
        (np.roll(REAL, 1, 2), "it is shifted by 1 along axis 1"),
        (REAL[:, [2, 0, 3, 1]][:, :, [1, 0, 3, 2]], "its components are in another order"),
        (REAL * np.arange(1.0, 7.0)[:, None, None], "its length depends on the output tangent"),
        (REAL * VALUE, "multiplied by the leaf's value"),
        (REAL * np.exp(VALUE), "each component has a factor of its own"),
        (REAL + 0.1 * VALUE, "0.1 times the leaf itself is added"),
        (REAL + OTHER[0], "something is added that does not depend on the output tangent"),
        (np.broadcast_to(OTHER[:1], REAL.shape), "it does not depend on the output tangent"),
        (with_zero_row(), "index 2 of axis 0 (4 of 16): zero where it is not"),
        (with_one_off(), "1 of 16 components ([1, 3]): multiplied by 3"),
        (np.full_like(REAL, np.nan), "nan: a division by zero"),
    ],
)
def test_the_numbers_tell_the_cause(custom, expected):
    assert expected in cause(custom)


def test_complex_causes():
    value = COMPLEX[0]
    assert "conj" in cause(COMPLEX.conj(), COMPLEX, value)
    assert "and a factor" in cause(2 * COMPLEX.conj(), COMPLEX, value)
    assert "a factor of" in cause((1 + 1j) * COMPLEX, COMPLEX, value)


def test_nothing_is_made_up():
    custom = REAL + DRAW.normal(size=REAL.shape)
    assert cause(custom) == ""
