"""Whatever the bytes, the compiler answers; and what it writes is Python that holds the source."""

from __future__ import annotations

import warnings
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vjpgen.compiler import Options, Siblings, compile_source, parse_header

CASES = Path(__file__).resolve().parents[1] / "cases"
TEXTS = [path.read_text("utf-8") for path in CASES.glob("*.py") if "_vjp" not in path.stem]
PIECES = [
    *(
        "\n",
        "\n\n",
        "    ",
        "\t",
        "\r\n",
        "\r",
        "\f",
        "\\",
        "#",
        '"',
        "'",
        '"""',
        "(",
        ")",
        ":",
        ",",
    ),
    *(
        "=",
        "*",
        "**",
        "@",
        "async ",
        "lambda x: x",
        "yield x",
        "é",
        "\u3000",
        "\0",
        "\ufeff",
        "_vjp",
    ),
    *("# custom-vjp: ", "# custom_vjp: bwd=bwd", "bwd=", "fwd=bwd, ", "missing=zero", "target=nnx"),
    *(
        "nondiff_argnums=(0, ",
        "grad_vars=(a, 'b')",
        "class A:",
        "def f(x):",
        "global bwd",
        "import os;",
    ),
]


@st.composite
def sources(draw: st.DrawFn) -> str:
    """A case with a few of its places replaced by something else."""
    text = draw(st.sampled_from(TEXTS))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.sampled_from([0, 0, 1, 3, 20])))
        piece = draw(st.sampled_from(PIECES) | st.text(max_size=3))
        text = text[:start] + piece + text[end:]
    return text


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(sources())
def test_no_source_makes_the_compiler_raise(text: str) -> None:
    data = text.encode("utf-8", "surrogatepass")
    siblings = Siblings(frozenset({"cases.linen_method", "cases.plain_function"}), "cases")
    result = compile_source(data, "m.py", options=Options(origin="m.py"), siblings=siblings)
    rows = text.count("\n") + text.count("\r") + 2
    assert all(1 <= finding.span.row <= rows for finding in result.diagnostics)
    assert all(finding.span.column >= 1 for finding in result.diagnostics)
    if result.output is None:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compile(result.output, "m_vjp.py", "exec")
    again = compile_source(data, "m.py", options=Options(origin="m.py"), siblings=siblings)
    assert again == result
    header = parse_header(result.output)
    assert header is not None
    assert header.intact


@settings(max_examples=60, deadline=None)
@given(
    st.binary(max_size=60), st.sampled_from([b"", b"# custom-vjp: bwd=b\n", b"# coding: utf-7\n"])
)
def test_no_bytes_make_the_compiler_raise(data: bytes, start: bytes) -> None:
    data = start + data + b"# custom-vjp: bwd=b\ndef f(x): return x\n"
    compile_source(data, "m.py", options=Options(origin="m.py"))
