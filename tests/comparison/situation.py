"""A situation: one small program, written with each of the four tools."""

from __future__ import annotations

from typing import Any

from tests.comparison.outcomes import NotAvailable, Outcome, outcome

TOOLS = ("linen", "nnx", "jax", "vjpgen")
HEADINGS = {
    "linen": "`flax.linen.custom_vjp`",
    "nnx": "`flax.nnx.custom_vjp`",
    "jax": "`jax.custom_vjp`",
    "vjpgen": "vjpgen",
}


class Situation:
    """Subclasses say in their docstring what the situation is, and write the four programs.

    Each program returns a tree of arrays, which is compared with that of `expected`. `jax` is
    written as a user of JAX would: with the variables of a module as explicit arguments.
    """

    # A pattern for the words of the error or warning that is right here, if one is.
    names: str | None = None
    # What vjpgen's cell says where that is neither "right" nor "names it".
    vjpgen_says: str | None = None
    # Whether it needs a process of its own with JAX_CUSTOM_VJP3=1.
    vjp3 = False

    def expected(self) -> Any:
        """Return the right result; None where the right thing is to raise or to warn."""
        return None

    def linen(self) -> Any:
        """The program with `flax.linen.custom_vjp`."""
        raise NotAvailable

    def nnx(self) -> Any:
        """The program with `flax.nnx.custom_vjp`."""
        raise NotAvailable

    def nnx_simple(self) -> Any:
        """The same with `graph_updates=False`, where that does what the default does not."""
        raise NotAvailable

    def jax(self) -> Any:
        """The program with `jax.custom_vjp`."""
        raise NotAvailable

    def vjpgen(self) -> Any:
        """The program with an annotation; run as vjpgen compiles it."""
        raise NotAvailable

    @classmethod
    def title(cls) -> str:
        """The words of the table's first column."""
        assert cls.__doc__ is not None
        return " ".join(cls.__doc__.split())

    @classmethod
    def run(cls, tool: str) -> Outcome:
        """Run the program of one tool."""
        self = cls()
        expected = self.expected()
        found = outcome(getattr(self, tool), expected, cls.names)
        if tool != "nnx" or found.good or found.text == "not available":
            return found
        simple = outcome(self.nnx_simple, expected, cls.names)
        if not simple.good:
            return Outcome(found.text, f"{found.detail}\nwith graph_updates=False: {simple}")
        text = f"{simple.text} with `graph_updates=False`; by default {found.text}"
        return Outcome(text, found.detail)
