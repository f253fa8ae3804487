"""Whose code is not the user's."""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib.util import find_spec

_NAMES = ("flax", "jax", "jaxlib", "vjpgen")


def _folders(names: Iterable[str]) -> Iterable[str]:
    for name in names:
        spec = find_spec(name)
        for folder in (spec.submodule_search_locations if spec else None) or ():
            yield os.path.join(folder, "")


HIDDEN = ("<frozen ", *_folders(_NAMES))
"""What the file names of frames begin with that say nothing to a user."""
