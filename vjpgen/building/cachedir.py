"""Where the user's cache folder is; apart from the cache, so that it can be asked at no cost."""

from __future__ import annotations

import os
import sys

ENVIRONMENT = "VJPGEN_CACHE_DIR"

LONGEST_SECONDS = 60 * 24 * 3600
"""What was last written longer ago is removed."""


def cache_folder() -> str:
    """Return the absolute path of the folder for all projects, as user or platform want it."""
    chosen = os.environ.get(ENVIRONMENT)
    if chosen:
        return os.path.abspath(chosen)
    if sys.platform == "win32":
        home = os.environ.get("LOCALAPPDATA") or os.path.expanduser("~/AppData/Local")
    elif sys.platform == "darwin":
        home = os.path.expanduser("~/Library/Caches")
    else:
        home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(home, "vjpgen")
