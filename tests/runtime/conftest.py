"""Import an annotated source and the module generated from it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.runtime.generate import load_pair


@pytest.fixture(scope="session")
def pair(tmp_path_factory):
    """Give `plain` and `lifted`: a source of this folder, and what vjpgen makes of it.

    A name may lead into a folder below: `pair("patterns/attention")`.
    """
    built: dict[str, SimpleNamespace] = {}

    def get(name: str) -> SimpleNamespace:
        if name not in built:
            built[name] = load_pair(name, tmp_path_factory.mktemp("generated"))
        return built[name]

    return get
