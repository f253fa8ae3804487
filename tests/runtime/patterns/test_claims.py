"""The claims of patterns that are cheap to verify; `vjpgen verify` tests those of the others."""

from __future__ import annotations

import pytest

from vjpgen.testing.examples import argument_sets
from vjpgen.testing.finding import find_rule
from vjpgen.testing.verifying import verify


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("mixture", "permute"),
        ("callbacks", "host_sinc"),
        ("gradient_control", "reverse"),
        ("gradient_control", "unscale"),
    ],
)
def test_claims_hold(pair, x64, source, name):
    found = find_rule(pair(f"patterns/{source}").lifted, name, {})
    (arguments,) = argument_sets(found.example)
    report = verify(found.function, arguments)
    assert report.ok, report.findings
    assert "" not in {leaf.claim for leaf in report.leaves}
