"""Annotations as text, whole and unfinished; trees of buffers that do not parse."""

from __future__ import annotations

import ast

import pytest

from tests.lsp.conftest import cursor
from vjpgen.lsp.document import Document
from vjpgen.lsp.reading import annotation_at, annotations_of, comments_of
from vjpgen.lsp.trees import function_at, mended_tree


def document(text: str) -> Document:
    return Document("file:///m.py", "/m.py", text)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("# custom-vjp: bwd=f|oo", "bwd", "foo"),
        ("# custom-vjp: b|", "b", None),
        ("# custom-vjp:|", "", None),
        ("# custom-vjp: bwd=b, |", "", None),
        ("# custom-vjp: bwd=b, nondiff_argnames=(a, b|", "nondiff_argnames", "(a, b"),
        ("# custom-vjp: bwd=f(a, k=2), fwd=g|", "fwd", "g"),
        ("# custom-vjp: bwd=f(',=', k=|2)", "bwd", "f(',=', k=2)"),
        ("# custom-vjp: nondiff_argnames=(a,\n# custom-vjp: b|)", "nondiff_argnames", None),
        ("# custom-vjp: nondiff_argnames=(a,\n# custom-vjp: bwd=|b", "bwd", "b"),
        ("# custom-vjp: fwd=f\n# other\n# custom-vjp: bwd=|", "bwd", ""),
        ("def f(x):  # custom-vjp: bwd=|b  # why, fwd=2", "bwd", "b"),
    ],
)
def test_the_part_at_a_cursor(text: str, name: str, value: str | None) -> None:
    text, place = cursor(text)
    annotation = annotation_at(annotations_of(comments_of(document(text))), place[0])
    assert annotation is not None
    offset = annotation.offset(place)
    assert offset is not None
    assert annotation.place(offset) == place
    part = annotation.at(offset)
    assert part is not None
    assert part.name == name
    assert value is None or part.value == value


def test_a_cursor_after_a_second_hash_is_in_no_part() -> None:
    text, place = cursor("# custom-vjp: bwd=b  # why|\ndef f(x):\n    return x\n")
    (annotation,) = annotations_of(comments_of(document(text)))
    assert annotation.offset(place) is None


@pytest.mark.parametrize(
    "broken",
    ["x = (", "def g(", "class", "x = 'abc", '"""', "def g(x)", "if x:", "  y", "return )", "\\"],
)
def test_annotations_are_found_where_a_buffer_does_not_parse(broken: str) -> None:
    text = f"{broken}\n# custom-vjp: bwd=b\ndef f(x):\n    return x\n"
    rows = [each.first_row for each in annotations_of(comments_of(document(text)))]
    assert rows in ([2], [])
    assert rows == [2] or broken == '"""'


def test_what_looks_like_an_annotation_in_a_string_is_none() -> None:
    text = '"""\n# custom-vjp: bwd=b\n"""\nx = "# custom-vjp: bwd=b"\n'
    assert annotations_of(comments_of(document(text))) == ()


@pytest.mark.parametrize(
    "below",
    [
        "def f(x, y):\n    return x\n",
        "def f(x, y):\n",
        "def f(x, y)\n    return x\n",
        "def f(x, y\n    return x\n",
        "def f(x, y, \n",
        "def f(x, y):\n    return (x\n",
        "def f(x, y):\n    x.\n",
        "@jax.jit\ndef f(x, y):\n    z = = 2\n    return z\n",
    ],
)
def test_the_function_below_is_found_while_someone_types(below: str) -> None:
    buffer = document(f"def b(v, t):\n    return v(t)\n\n\n# custom-vjp: bwd=b\n{below}")
    tree = mended_tree(buffer)
    (annotation,) = annotations_of(comments_of(buffer))
    assert tree is not None
    node = function_at(tree, annotation)
    assert node is not None
    assert node.name == "f"
    assert [argument.arg for argument in node.args.args] == ["x", "y"]
    assert isinstance(tree.body[0], ast.FunctionDef)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("def o(x):\n    # custom-vjp: bwd=b\n    def i(x):\n        pass\n", "i"),
        ("def o(x):  # custom-vjp: bwd=b\n    def i(x):\n        pass\n", "o"),
        ("def o(\n    x,\n):  # custom-vjp: bwd=b\n    def i(x):\n        pass\n", "o"),
        ("@a\n# custom-vjp: bwd=b\n@c\ndef o(x):\n    pass\n", "o"),
        ("# custom-vjp: bwd=b\n@a\ndef o(x):\n    pass\ndef p():\n    pass\n", "o"),
    ],
)
def test_which_function_an_annotation_belongs_to(text: str, name: str) -> None:
    buffer = document(text)
    tree = mended_tree(buffer)
    (annotation,) = annotations_of(comments_of(buffer))
    assert tree is not None
    node = function_at(tree, annotation)
    assert node is not None
    assert node.name == name


@pytest.mark.parametrize("text", ["\0", "(" * 2000, "x\n" * 3 + "(" * 90, "def f(:\n" * 60])
def test_what_cannot_be_mended_is_no_fault(text: str) -> None:
    buffer = document(text)
    mended_tree(buffer)
    comments_of(buffer)
