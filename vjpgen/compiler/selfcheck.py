"""What the compiler proves of its own output before anyone sees it."""

from __future__ import annotations

from collections.abc import Sequence

from vjpgen.compiler.edits import Edit, undo
from vjpgen.compiler.source import Source


def fault(source: Source, output: bytes, edits: Sequence[Edit]) -> str | None:
    """What is wrong with an output, or None: it must compile and hold the source unchanged."""
    try:
        compile(output, source.filename, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        return f"the generated module would not compile ({error})"
    text = output.removeprefix(source.bom).decode(source.encoding)
    if source.encode(undo(text, source.text, edits)) != source.data:
        return "the generated module would change text that it must keep"
    return None
