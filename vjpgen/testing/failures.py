"""What is said where the user's own code fails."""

from __future__ import annotations

import traceback

from vjpgen.testing.libraries import HIDDEN

_GENERATED = "_vjp_"
_ABOUT_FRAMES = "JAX_TRACEBACK_FILTERING"


def described(error: BaseException) -> str:
    """Return an exception's traceback without the frames of vjpgen, jax and flax."""
    told = traceback.TracebackException.from_exception(error)
    frames = [
        frame
        for frame in told.stack
        if not frame.filename.startswith(HIDDEN) and not frame.name.startswith(_GENERATED)
    ]
    notes = getattr(told, "__notes__", None) or []
    told.__notes__ = [note for note in notes if _ABOUT_FRAMES not in note]
    return "".join((*traceback.format_list(frames), *told.format_exception_only()))


def in_short(error: BaseException) -> str:
    """Return an exception's type, text and the user's line that it comes from, on one line."""
    told = traceback.TracebackException.from_exception(error)
    frames = [frame for frame in told.stack if not frame.filename.startswith(HIDDEN)]
    text = " ".join(str(error).split())
    where = f" ({_file(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {text}{where}" if text else f"{type(error).__name__}{where}"


def _file(path: str) -> str:
    return path.replace("\\", "/").rpartition("/")[2]
