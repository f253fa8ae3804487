"""What must survive to the byte: encodings, line ends, indentation, places of the insertions."""

from __future__ import annotations

import codecs
import subprocess
import sys
from pathlib import Path

import pytest

from vjpgen.compiler import (
    INTERFACE,
    Options,
    Result,
    compile_source,
    has_annotation,
    is_annotated,
    is_generated,
    parse_header,
)
from vjpgen.compiler.header import preamble_length
from vjpgen.compiler.template import template_path

TEXT = '''\
"""Café."""

from __future__ import annotations

import os; import sys  # two


def bwd(vjp_fn, y_t):
    return vjp_fn(y_t)


class A:
    # custom-vjp: bwd=bwd
    def f(self, x):
        """Naïve."""
        return x, os, sys
        # The end.

    y = 1


# custom-vjp: bwd=bwd
def g(x):
    return x
'''


def compiled(data: bytes) -> bytes:
    result: Result = compile_source(data, "m.py", options=Options(origin="pkg/ü.py"))
    assert result.diagnostics == ()
    assert result.output is not None
    return result.output


def without_insertions(output: bytes) -> bytes:
    """Take out what the compiler inserts, by what it looks like and not by where it is."""
    newline = b"\r\n" if b"\r\n" in output else b"\n"
    kept: list[bytes] = []
    skipping = False
    bom = codecs.BOM_UTF8 if output.startswith(codecs.BOM_UTF8) else b""
    lines = output.removeprefix(bom).split(newline)
    start = next(i for i, line in enumerate(lines) if line.startswith(b"# @generated"))
    del lines[start : start + 5]
    for line in lines:
        text = line.strip()
        if text.startswith((b"def _vjp_lifted", b"@staticmethod")):
            while kept and not kept[-1].strip():
                kept.pop()
            skipping = True
        if not skipping and b"_vjpgen" not in text:
            kept.append(line)
        if text == b")":
            skipping = False
    return bom + newline.join(kept)


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode(),
        TEXT.replace("\n", "\r\n").encode(),
        TEXT.replace("    ", "\t").encode(),
        TEXT.replace("    ", "  ").encode(),
        codecs.BOM_UTF8 + TEXT.encode(),
        ("#!/usr/bin/env python\n" + TEXT).encode(),
        ("# coding: latin-1\n" + TEXT).encode("latin-1"),
        ("#!/usr/bin/env python\n# -*- coding: cp1252 -*-\n" + TEXT).encode("cp1252"),
        ("# A comment.\n# vim: set fileencoding=utf-8 :\n" + TEXT).encode(),
        TEXT.rstrip("\n").encode(),
        TEXT.replace("\n", "\r\n").rstrip("\r\n").encode(),
    ],
    ids=[
        "lf",
        "crlf",
        "tabs",
        "two",
        "bom",
        "shebang",
        "latin",
        "cp",
        "second",
        "no end",
        "crlf no",
    ],
)
def test_everything_but_the_insertions_is_the_source(data: bytes) -> None:
    output = compiled(data)
    assert compiled(data) == output
    compile(output, "m_vjp.py", "exec")
    assert without_insertions(output) == data
    assert (b"\r\n" in output) == (b"\r\n" in data)
    assert b"\n\n" not in output if b"\r\n" in data else True
    assert output[: preamble_length(data)] == data[: preamble_length(data)]
    header = parse_header(output)
    assert header is not None
    assert header.intact
    assert header.interface == INTERFACE
    assert b"\t" not in data or b"\t\t\twith _vjp_split" in output


def test_the_header_tells_a_hand_edit_from_other_line_ends() -> None:
    output = compiled(TEXT.encode())
    header = parse_header(output)
    assert header is not None
    assert header.origin == "pkg/ü.py"
    assert is_generated(output)
    assert compile_source(output, "m_vjp.py", options=Options("m_vjp.py")) == Result()
    other = parse_header(output.replace(b"\n", b"\r\n"))
    assert other is not None
    assert other.intact
    edited = parse_header(output.replace(b"y = 1", b"y = 2"))
    assert edited is not None
    assert not edited.intact
    broken = parse_header(output.replace(b"# sha256", b"<<<<<<< HEAD\n# sha256"))
    assert broken is not None
    assert not broken.intact
    assert not is_generated(TEXT.encode())
    assert not is_generated(b"")


def test_the_runtime_has_the_same_interface_number() -> None:
    from vjpgen import runtime

    assert runtime.INTERFACE == INTERFACE


def test_annotated_means_annotated_in_a_comment() -> None:
    assert is_annotated(TEXT.encode())
    assert not is_annotated(b"'# custom-vjp: bwd=b'\n")
    assert is_annotated(b"# custom-vjp: bwd=b\ndef f(:\n")
    assert not is_annotated(b"# custom_vjp: bwd=b\n")
    assert has_annotation(b"# custom_vjp: bwd=b\n")
    assert not has_annotation(b"import jax\n\n\n@jax.custom_vjp\ndef f(x): return x\n")


def test_an_edit_of_one_function_leaves_the_others_text_alone() -> None:
    before = compiled(TEXT.encode()).decode().splitlines()[5:]
    after = compiled(TEXT.replace("return x\n", "return +x\n").encode()).decode().splitlines()[5:]
    changed = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    assert changed == [("    return x", "    return +x")]


def test_the_compiler_imports_neither_jax_nor_the_runtime() -> None:
    code = (
        "import sys, vjpgen.compiler as c\n"
        "assert 'libcst' not in sys.modules\n"
        "source = b'# custom-vjp: bwd=max\\ndef f(x):\\n    return x\\n'\n"
        "assert c.compile_source(source, 'm.py', options=c.Options('m.py')).output\n"
        "found = {'jax', 'flax', 'numpy', 'vjpgen.runtime'} & set(sys.modules)\n"
        "assert not found, found\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_templates_are_real_python_that_the_runtime_satisfies() -> None:
    path: Path = template_path("lifted.py")
    assert path.is_file()
    namespace: dict[str, object] = {"__name__": "template"}
    exec(compile(path.read_bytes(), str(path), "exec"), namespace)
    assert callable(namespace["function"])
