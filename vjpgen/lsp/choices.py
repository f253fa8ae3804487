"""The values that may be written for a key, where they can be listed."""

from __future__ import annotations

from vjpgen.compiler.targets import TARGETS
from vjpgen.compiler.values import KEYS


def choices(key: str) -> tuple[str, ...]:
    """List a key's values; a target that lifts nothing yet is none."""
    listed = KEYS[key].choices if key in KEYS else ()
    return tuple(each for each in listed if key != "target" or TARGETS[each].template)
