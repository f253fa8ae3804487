"""What holds for every test: none sees what the user's own runs have left."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the results of builds, those of other processes too, for these tests alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VJPGEN_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield
