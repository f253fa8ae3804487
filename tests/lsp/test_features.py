"""Hover, definitions and completion, asked of a text at its cursor."""

from __future__ import annotations

import pytest

from tests.lsp.conftest import Look, cursor
from vjpgen.compiler.keys import KEY_TEXTS
from vjpgen.compiler.values import KEYS
from vjpgen.diagnostics.catalogue import CATALOGUE
from vjpgen.lsp.completion import completions
from vjpgen.lsp.definition import definitions
from vjpgen.lsp.edits import TextEdit, applied
from vjpgen.lsp.hover import hover
from vjpgen.lsp.view import View

RULE = "def scale_bwd(vjp_fn, y_t):\n    return vjp_fn(y_t)\n\n\n"


def shown(look: Look, text: str, **options: object) -> str:
    text, place = cursor(text)
    found = hover(look(text, **options), place)
    return "" if found is None else found.markdown


def test_a_rule_is_shown_with_what_is_generated(look: Look) -> None:
    annotation = "# custom-vjp: bwd=scale_bwd, nondiff_argnums=1  # wh|y\n"
    text = RULE.replace("(vjp_fn", "(n, vjp_fn") + annotation + "def scale(x, n):\n    return x\n"
    markdown = shown(look, text)
    assert "**`scale`**, a rule of target `function`" in markdown
    assert "- `bwd=scale_bwd`: `scale_bwd(n, vjp_fn, y_t)`, model.py:1" in markdown
    assert "- `fwd`: the primal through `vjp`" in markdown
    assert "- `nondiff_argnums=1`" in markdown
    assert "returns one tangent for `x`" in markdown
    assert "```python\ndef _vjp_lifted_scale(_vjp, x, n):" in markdown
    assert "bwd=lambda: scale_bwd" in markdown


def test_a_rule_is_shown_with_the_configured_policy(look: Look) -> None:
    text = RULE + "# custom-vjp: bwd=sc|ale_bwd\ndef scale(x):\n    return x\n"
    markdown = shown(look, text, config='[tool.vjpgen]\nmissing = "zero"\n')
    assert "- `missing`: `zero`, as configured" in markdown
    assert 'missing="zero"' in markdown


def test_a_rule_with_errors_is_shown_with_them(look: Look) -> None:
    text = "# custom-vjp: bwd=no|where\ndef scale(x):\n    return x\n"
    markdown = shown(look, text)
    assert "VJP101" in markdown
    assert "```" not in markdown


def test_one_bad_rule_does_not_hide_another(look: Look) -> None:
    text = (
        "# custom-vjp: bwd=nowhere\ndef bad(x):\n    return x\n\n\n"
        + RULE
        + "# custom-vjp: bwd=scale_b|wd\ndef scale(x):\n    return x\n"
    )
    assert "_vjp_lifted_scale" in shown(look, text)


@pytest.mark.parametrize("key", sorted(KEYS))
def test_a_key_is_explained(look: Look, key: str) -> None:
    text = f"# custom-vjp: bwd=b, {key[:2]}|{key[2:]}=b\ndef scale(x):\n    return x\n"
    markdown = shown(look, text)
    (meaning,) = [each.meaning for each in KEY_TEXTS if key in each.keys]
    assert f"**`{key}`**" in markdown
    assert meaning[1:] in markdown


@pytest.mark.parametrize("code", sorted(CATALOGUE))
def test_a_code_in_a_suppression_is_explained(look: Look, code: str) -> None:
    markdown = shown(look, f"x = 1  # vjpgen: ignore[VJP101, {code[:5]}|{code[5:]}]\n")
    assert CATALOGUE[code].title in markdown
    assert CATALOGUE[code].explanation in markdown


@pytest.mark.parametrize(
    "text",
    ["def sca|le(x):\n    return x\n", "|", "# a comm|ent\n", "x = '# custom-vjp: bwd=|b'\n"],
)
def test_nothing_is_shown_elsewhere(look: Look, text: str) -> None:
    assert shown(look, text) == ""


CLASS = """\
class Rules:
    def bwd(vjp_fn, y_t):
        return vjp_fn(y_t)


"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (RULE + "# custom-vjp: bwd=|scale_bwd\ndef f(x):\n    return x\n", "def §scale_bwd"),
        (RULE + "# custom-vjp: bwd=scale_bwd|\ndef f(x):\n    return x\n", "def §scale_bwd"),
        (
            RULE + "# custom-vjp: bwd=partial(scale|_bwd, 2)\ndef f(x):\n    return x\n",
            "def §scale_bwd",
        ),
        (CLASS + "# custom-vjp: bwd=Rules.b|wd\ndef f(x):\n    return x\n", "    def §bwd"),
        (CLASS + "# custom-vjp: bwd=Ru|les.bwd\ndef f(x):\n    return x\n", "class §Rules"),
        (
            "class N:\n    # custom-vjp: bwd=own|\n    def f(self, x):\n        return x\n\n"
            "    def own(self, v, t):\n        return v(t)\n",
            "    def §own",
        ),
        (
            RULE.replace("scale_bwd", "b") + "def o(x):\n    def b(v, t):\n        return v(t)\n\n"
            "    # custom-vjp: bwd=|b\n    def f(x):\n        return x\n\n    return f(x)\n",
            "    def §b(v",
        ),
        (
            RULE + "def ex():\n    return (1.0,)\n\n\n"
            "# custom-vjp: bwd=scale_bwd, example=e|x\ndef f(x):\n    return x\n",
            "def §ex",
        ),
        ("b = lambda v, t: v(t)\n# custom-vjp: bwd=|b\ndef f(x):\n    return x\n", "§b = "),
        (
            RULE + "# custom-vjp: bwd=scale_bwd, nondiff_argnames=(x, tr|ain)\n"
            "def f(x, train):\n    return x\n",
            "def f(x, §train",
        ),
        (
            RULE + "# custom-vjp: bwd=sc|ale_bwd\ndef f(x:\n    return x\n",
            "def §scale_bwd",
        ),
    ],
)
def test_the_way_to_a_definition(look: Look, text: str, expected: str) -> None:
    text, place = cursor(text)
    (found,) = definitions(look(text), place)
    line = found.document.line(found.span.row)
    column = found.span.column - 1
    assert (line[:column] + "§" + line[column:]).startswith(expected)
    assert line[column : found.span.end_column - 1].isidentifier()


RULES = "def outer_bwd(vjp_fn, y_t):\n    return vjp_fn(y_t)\n"
ANNOTATED = "# custom-vjp: bwd={}\ndef f(x):\n    return x\n"


@pytest.mark.parametrize(
    ("imports", "value", "files", "place"),
    [
        ("from rules import outer_bwd\n", "outer|_bwd", {"rules.py": RULES}, ("rules.py", 1)),
        ("from rules import outer_bwd as b\n", "|b", {"rules.py": RULES}, ("rules.py", 1)),
        ("import rules\n", "rules.outer|_bwd", {"rules.py": RULES}, ("rules.py", 1)),
        ("import rules\n", "ru|les.outer_bwd", {"rules.py": RULES}, ("rules.py", 1)),
        ("from rules import *\n", "outer_bw|d", {"rules.py": RULES}, ("rules.py", 1)),
        ("import a.rules\n", "a.rules.outer_bwd|", {"a/rules.py": RULES}, ("a/rules.py", 1)),
        (
            "import a.rules as r\n",
            "r.outer_bwd|",
            {"a/__init__.py": "", "a/rules.py": "\n" + RULES},
            ("a/rules.py", 2),
        ),
        (
            "from a import outer_bwd\n",
            "outer_bwd|",
            {"a/__init__.py": "from .rules import outer_bwd\n", "a/rules.py": RULES},
            ("a/rules.py", 1),
        ),
        (
            "from rules import Own\n",
            "Own.b|",
            {"rules.py": "class Own:\n    @staticmethod\n    def b(v, t):\n        pass\n"},
            ("rules.py", 3),
        ),
        ("from jax import elsewhere\n", "else|where", {}, ("model.py", 1)),
        ("from loop import b\n", "|b", {"loop.py": "from loop import b\n"}, ("loop.py", 1)),
    ],
)
def test_the_way_to_another_module(
    look: Look, imports: str, value: str, files: dict[str, str], place: tuple[str, int]
) -> None:
    text, at = cursor(imports + ANNOTATED.format(value))
    (found,) = definitions(look(text, files=files), at)
    assert found.document.path.endswith("/" + place[0])
    assert found.span.row == place[1]


def test_the_way_from_within_a_package(look: Look) -> None:
    text, at = cursor("from ..rules import outer_bwd\n" + ANNOTATED.format("|outer_bwd"))
    files = {"p/__init__.py": "", "p/q/__init__.py": "", "p/rules.py": RULES}
    (found,) = definitions(look(text, "p/q/model.py", files=files), at)
    assert found.document.path.endswith("/p/rules.py")


@pytest.mark.parametrize(
    "text",
    [
        "# custom-vjp: bwd=no|where\ndef f(x):\n    return x\n",
        "# custom-vjp: b|wd=b\ndef f(x):\n    return x\n",
        RULE + "# custom-vjp: missing=ze|ro\ndef f(x):\n    return x\n",
        RULE + "# custom-vjp: bwd=lambda scale_bwd, t: scale_b|wd(t)\ndef f(x):\n    return x\n",
        "# custom-vjp: bwd=l|en\n",
        "|",
    ],
)
def test_no_way_to_what_is_defined_nowhere(look: Look, text: str) -> None:
    text, place = cursor(text)
    assert definitions(look(text), place) == ()


def labels(look: Look, text: str, **options: object) -> list[str]:
    text, place = cursor(text)
    found = completions(look(text, **options), place)
    return [item.label for item in sorted(found, key=lambda item: (item.rank, item.label))]


def chosen(view: View, place: tuple[int, int], label: str) -> str:
    """The text once a completion is accepted."""
    (item,) = [item for item in completions(view, place) if item.label == label]
    return applied(view.document, [TextEdit(item.start, place, item.text or item.label)])


BELOW = "\ndef scale(x, mask, *, train):\n    return x\n"


@pytest.mark.parametrize(
    ("typed", "first", "absent"),
    [
        ("# custom-vjp: |", ["bwd", "fwd"], []),
        ("# custom-vjp:|", ["bwd", "fwd"], []),
        ("# custom-vjp: bwd=b, |", ["fwd", "grad_vars"], ["bwd"]),
        ("# custom-vjp: bwd=b, mis|", ["fwd"], ["bwd"]),
        ("# custom-vjp: fwd=f\n# custom-vjp: |", ["bwd", "grad_vars"], ["fwd"]),
        ("# custom-vjp: |, bwd=b", ["fwd"], ["bwd"]),
        ("# custom-vjp: bwd=b,| missing=zero", ["fwd"], ["bwd", "missing"]),
        ("# custom-vjp: missing=|", ["error", "zero", "autodiff"], ["bwd"]),
        ("# custom-vjp: missing=ze|", ["error", "zero"], []),
        ("# custom-vjp: target=|", ["linen", "function"], ["nnx"]),
        ("# custom-vjp: symbolic_zeros=|", ["True", "False"], []),
        ("# custom-vjp: grad_vars=|", ["params"], []),
        ("# custom-vjp: nondiff_argnames=|", ["x", "mask", "train"], []),
        ("# custom-vjp: nondiff_argnames=(x, |", ["mask", "train"], ["x"]),
        ("# custom-vjp: nondiff_argnums=(0, |", ["0", "1"], []),
        ("# custom-vjp: exact=|", ["True", "x", "mask", "train"], []),
        ("# custom-vjp: bwd=|", ["scale_bwd"], ["scale"]),
        ("# custom-vjp: bwd=scale_b|", ["scale_bwd"], []),
        ("# custom-vjp: bwd=partial(|", ["scale_bwd"], []),
        ("# custom-vjp: fwd=|", ["scale_fwd", "scale_bwd"], []),
        ("# custom-vjp: example=|", ["scale_example"], []),
        ("#|", ["# custom-vjp:"], []),
        ("# cust|", ["# custom-vjp:"], []),
        ("# custom-vjp: bwd=b  # vjpgen: ignore[|", ["VJP001"], []),
        ("# custom-vjp: bwd=b  # vjpgen: ignore[VJP302, VJP3|]", ["VJP001"], []),
    ],
)
def test_what_can_be_written(look: Look, typed: str, first: list[str], absent: list[str]) -> None:
    head = RULE + "def scale_fwd(x):\n    return x, x\n\n\ndef scale_example():\n    return 1\n\n\n"
    found = labels(look, head + typed + BELOW)
    assert found[: len(first)] == first
    assert not set(absent) & set(found)


@pytest.mark.parametrize("below", ["\ndef scale(x, mask:\n    return (", "\ndef scale(x, mask\n"])
def test_what_can_be_written_where_the_buffer_does_not_parse(look: Look, below: str) -> None:
    assert labels(look, RULE + "# custom-vjp: bwd=|" + below)[0] == "scale_bwd"
    assert labels(look, RULE + "# custom-vjp: bwd=b, |" + below)[0] == "fwd"
    found = labels(look, RULE + "# custom-vjp: nondiff_argnames=|" + below)
    assert found == ["x", "mask"]


def test_the_module_is_no_nondiff_argument(look: Look) -> None:
    text = "class N:\n    # custom-vjp: nondiff_argnames=|\n    def f(self, x):\n        return x\n"
    assert labels(look, text) == ["x"]


@pytest.mark.parametrize(
    ("imports", "typed", "files"),
    [
        ("import rules\n", "rules.|", {"rules.py": RULES}),
        ("import rules as r\n", "r.out|", {"rules.py": RULES}),
        ("from a import rules\n", "rules.|", {"a/rules.py": RULES}),
        ("class K:\n    def outer_bwd(v, t):\n        pass\n\n\n", "K.|", {}),
    ],
)
def test_the_functions_of_a_module_or_class(
    look: Look, imports: str, typed: str, files: dict[str, str]
) -> None:
    found = labels(look, imports + ANNOTATED.format(typed), files=files)
    assert found[0] == "outer_bwd"


def test_what_is_imported_says_from_where(look: Look) -> None:
    text = "from ..rules import outer_bwd\n\n\n" + ANNOTATED.format("|")
    text, place = cursor(text)
    details = {item.label: item.detail for item in completions(look(text), place)}
    assert details["outer_bwd"] == "from ..rules"


def test_rules_of_the_scope_come_before_those_further_out(look: Look) -> None:
    text = (
        RULE + "def o(x):\n    def inner_bwd(v, t):\n        return v(t)\n\n"
        "    # custom-vjp: bwd=|\n    def f(x):\n        return x\n"
    )
    assert labels(look, text)[:2] == ["inner_bwd", "scale_bwd"]


@pytest.mark.parametrize(
    ("typed", "label", "written"),
    [
        ("# custom-vjp: |", "bwd", "# custom-vjp: bwd="),
        ("# custom-vjp:|", "bwd", "# custom-vjp: bwd="),
        ("# custom-vjp: mi|", "missing", "# custom-vjp: missing="),
        ("# custom-vjp: mi|=zero", "missing", "# custom-vjp: missing=zero"),
        ("# custom-vjp: bwd=b,| missing=zero", "fwd", "# custom-vjp: bwd=b,fwd= missing=zero"),
        ("# custom-vjp: bwd=sc|", "scale_bwd", "# custom-vjp: bwd=scale_bwd"),
        ("# custom-vjp: missing=au|", "autodiff", "# custom-vjp: missing=autodiff"),
        ("    # cu|", "# custom-vjp:", "    # custom-vjp: "),
        ("x = 1  # vjpgen: ignore[VJP1|", "VJP101", "x = 1  # vjpgen: ignore[VJP101"),
    ],
)
def test_what_is_chosen_is_written(look: Look, typed: str, label: str, written: str) -> None:
    text, place = cursor(RULE + typed + BELOW)
    assert chosen(look(text), place, label) == RULE + written + BELOW


@pytest.mark.parametrize(
    "text",
    [
        "# custom-vjp: bwd=b  # wh|y\ndef f(x):\n    return x\n",
        "# |\n\ndef f(x):\n    return x\n",
        "# |\nx = 1\n",
        "def f(x):\n    return |x\n",
        "# something |\ndef f(x):\n    return x\n",
        "|",
    ],
)
def test_nothing_is_offered_elsewhere(look: Look, text: str) -> None:
    assert labels(look, text) == []
