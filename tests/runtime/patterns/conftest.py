"""What the tests of patterns share."""

from __future__ import annotations

import jax
import pytest


@pytest.fixture
def x64():
    """Compute in 64-bit floats, so that references agree to many digits."""
    with jax.enable_x64(True):
        yield
