"""The static half of vjpgen: bytes of a source file in, bytes of a generated module out.

Nothing here imports jax or runs the user's code. libcst is imported by `compile_source` alone,
so that a caller who only looks for annotations or reads headers does not pay for it.
"""

from vjpgen.compiler.header import INTERFACE, Header, is_generated, parse_header, render_header
from vjpgen.compiler.result import Options, Result, RuleInfo
from vjpgen.compiler.siblings import Siblings
from vjpgen.compiler.tokens import has_annotation, is_annotated
from vjpgen.diagnostics import Diagnostic

__all__ = [
    "INTERFACE",
    "Header",
    "Options",
    "Result",
    "RuleInfo",
    "Siblings",
    "compile_source",
    "has_annotation",
    "is_annotated",
    "is_generated",
    "parse_header",
    "plain_imports",
    "render_header",
]


def plain_imports(
    data: bytes, filename: str, siblings: Siblings, suffix: str = "_vjp"
) -> tuple[Diagnostic, ...]:
    """Find the imports of annotated modules (VJP402) in a file that is not annotated itself.

    Args:
        data: the file's bytes.
        filename: the file as the user named it.
        siblings: the annotated modules of the project, seen from this one.
        suffix: what a generated module's name adds to its source's.
    """
    from vjpgen.compiler import plain

    return plain.plain_imports(data, filename, siblings, suffix)


def compile_source(
    source: bytes, filename: str, *, options: Options, siblings: Siblings | None = None
) -> Result:
    """Compile one source file; bad input gives diagnostics, never an exception.

    Args:
        source: the file's bytes.
        filename: the file as the user named it, for diagnostics.
        options: what the configuration and the file's place decide.
        siblings: the annotated modules whose imports are redirected; None redirects nothing.
    """
    from vjpgen.compiler.pipeline import run

    return run(source, filename, options, siblings or Siblings())
