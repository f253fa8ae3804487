"""Methods of Flax NNX modules: recognised, and refused until the runtime can split their state."""

from __future__ import annotations

from collections.abc import Iterator

from vjpgen.compiler.facts import Facts
from vjpgen.compiler.report import at_node
from vjpgen.compiler.targets.interface import Target
from vjpgen.diagnostics import Diagnostic


def _refuse(facts: Facts) -> Iterator[Diagnostic]:
    yield at_node(
        facts.source,
        "VJP206",
        f"`{facts.qualname}` works on a Flax NNX module, which cannot carry a rule yet",
        facts.node,
        "support for NNX comes in a later version; until then, put the rule on a plain function"
        " of arrays that the method calls",
    )


NNX = Target(name="nnx", template="", module_first=True, refuse=_refuse)
