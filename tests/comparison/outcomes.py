"""What came of a program: right, wrong and whether that was said, or an error and its words."""

from __future__ import annotations

import dataclasses
import re
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

RTOL = 1e-4


class NotAvailable(Exception):  # noqa: N818  it is no fault: the tool has no way to say it
    """The tool has no notion of what the situation is about; the text says why."""


class Refused(Exception):  # noqa: N818
    """The tool refuses the program, by the code in the text, before it runs."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One cell of the table.

    Args:
        text: what the table says.
        detail: the traceback or the values, for whoever wants to know why.
    """

    text: str
    detail: str = ""

    @property
    def good(self) -> bool:
        """Whether it is as it should be: the right value, or the right words."""
        return self.text.startswith(("right", "names it"))


def outcome(program: Callable[[], Any], expected: Any, names: str | None) -> Outcome:
    """Run a program and say what came of it.

    Args:
        program: returns a tree of arrays.
        expected: the tree that is right; None where nothing but an error or a warning is.
        names: a pattern for the words of an error or warning where that is what is right.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = jax.block_until_ready(program())
        except NotAvailable as why:
            return Outcome("not available", str(why))
        except Refused as code:
            return Outcome(f"refused (`{code}`)")
        except Exception as error:
            return _of_error(error, names)
    said = [str(w.message) for w in caught if not issubclass(w.category, DeprecationWarning)]
    if names is not None:
        for warning in caught:
            if re.search(names, str(warning.message), re.IGNORECASE | re.DOTALL):
                return Outcome(f"names it (`{warning.category.__name__}`)", str(warning.message))
    return _of_value(found, expected, said)


def _of_error(error: Exception, names: str | None) -> Outcome:
    detail = "".join(traceback.format_exception(error))
    if _recurses(error):  # what is raised in the end depends on where the stack was used up
        return Outcome("endless recursion", detail[:2000])
    kind, words = type(error).__name__, str(error)
    if names is not None and re.search(names, words, re.IGNORECASE | re.DOTALL):
        return Outcome(f"names it (`{kind}`)", detail)
    return Outcome(f"`{kind}: {_first_words(words)}`", detail)


def _recurses(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, RecursionError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _first_words(message: str, limit: int = 40) -> str:
    """Shorten a message; what differs from run to run (addresses, paths) is taken out."""
    text = re.sub(r"0x[0-9a-f]+", "0x…", " ".join(message.split()))
    text = re.sub(r"/\S*/", "", text).replace("|", "\\|").replace("`", "'")
    if len(text) <= limit:
        return text
    return text[:limit].rpartition(" ")[0].rstrip(",.;:(") + " …"


def _of_value(found: Any, expected: Any, said: list[str]) -> Outcome:
    how = "with a warning" if said else "silently"
    detail = f"found {found}\nexpected {expected}\n" + "\n".join(said)
    problem = "accepted" if expected is None else _difference(found, expected)
    return Outcome("right" if problem is None else f"{problem}, {how}", detail)


def _difference(found: Any, expected: Any) -> str | None:
    """Say in what a tree differs from what is expected; None where it does not."""
    if jax.tree.structure(found) != jax.tree.structure(expected):
        return "another structure"
    pairs = list(zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True))
    for ours, wanted in pairs:
        # What half precision loses is no wrong value: its dtype is looked at below.
        tolerance = RTOL if jnp.result_type(ours).itemsize > 2 else 1e-2
        ours = np.asarray(jnp.asarray(ours, jnp.float32))
        if np.shape(ours) != np.shape(wanted):
            return "another shape"
        if not np.allclose(ours, wanted, tolerance, tolerance):
            return "wrong value"
    if any(jnp.result_type(ours) != jnp.result_type(wanted) for ours, wanted in pairs):
        return "another dtype"
    return None
