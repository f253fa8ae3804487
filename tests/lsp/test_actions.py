"""Quick fixes: each applied to its text, which then is as it should be."""

from __future__ import annotations

import pytest

from tests.lsp.conftest import Look
from vjpgen.lsp.actions import Action, actions
from vjpgen.lsp.edits import applied
from vjpgen.lsp.view import View

RULE = "def scale_bwd(vjp_fn, y_t):\n    return vjp_fn(y_t)\n\n\n"
BELOW = "def scale(x, train):\n    return x\n"
GOOD = "# custom-vjp: bwd=scale_bwd\n"


def fixes(view: View, code: str) -> list[Action]:
    rows = len(view.document.lines)
    return [a for a in actions(view, 1, rows) if a.finding is not None and a.finding.code == code]


@pytest.mark.parametrize(
    ("code", "bad", "good"),
    [
        ("VJP002", "# custom-vjp: bwd=scale_bwd, mising=zero\n", "missing=zero"),
        ("VJP002", "# custom-vjp: bwd=scale_bwd, noDiff_argnum=1\n", "nondiff_argnums=1"),
        ("VJP101", "# custom-vjp: bwd=scale_bwdd\n", "bwd=scale_bwd"),
        ("VJP101", "# custom-vjp: bwd=partial(scale_bdw, 2)\n", "bwd=partial(scale_bwd, 2)"),
        ("VJP007", "# custom-vjp: bwd='scale_bwd'\n", "bwd=scale_bwd"),
        ("VJP007", "# custom-vjp: bwd=scale_bwd, missing=Zero\n", "missing=zero"),
        ("VJP007", "# custom-vjp: bwd=scale_bwd, missing='autodif'\n", "missing=autodiff"),
        ("VJP007", "# custom-vjp: bwd=scale_bwd, symbolic_zeros=true\n", "symbolic_zeros=True"),
        ("VJP205", "# custom-vjp: bwd=n_bwd, nondiff_argnames=trian\n", "nondiff_argnames=train"),
        ("VJP205", "# custom-vjp: bwd=n_bwd, nondiff_argnames=(trian,)\n", "argnames=(train,)"),
    ],
)
def test_did_you_mean(look: Look, code: str, bad: str, good: str) -> None:
    head = "from functools import partial\n\n\n" + RULE.replace("_fn", "")
    head += "def n_bwd(train, vjp, y_t):\n    return vjp(y_t)\n\n\n"
    view = look(head + bad + BELOW)
    (fix, *_) = fixes(view, code)
    after = applied(view.document, fix.edits)
    assert good in after
    assert fix.preferred
    assert code not in {finding.code for finding in look(after).findings}


def test_every_choice_where_none_is_near(look: Look) -> None:
    view = look(RULE + "# custom-vjp: bwd=scale_bwd, missing=7\n" + BELOW)
    titles = [fix.title for fix in fixes(view, "VJP007")]
    assert titles == [f"Replace `7` with `{each}`" for each in ("error", "zero", "autodiff")]


def test_there_is_nothing_to_take_off_where_there_are_no_quotes(look: Look) -> None:
    view = look(RULE + "# custom-vjp: bwd=None\n" + BELOW)
    assert not fixes(view, "VJP007")


def test_a_class_member_by_its_full_name(look: Look) -> None:
    text = (
        "class N:\n    @staticmethod\n    def b(v, t):\n        return v(t)\n\n"
        "    def o(self, x):\n        # custom-vjp: bwd=b\n"
        "        def f(x):\n            return x\n\n"
        "        return f(x)\n"
    )
    view = look(text)
    (fix,) = [fix for fix in fixes(view, "VJP101") if fix.title.startswith("Replace")]
    after = applied(view.document, fix.edits)
    assert "bwd=N.b\n" in after
    assert look(after).findings == ()


@pytest.mark.parametrize(
    "alike",
    [
        "#custom-vjp: bwd=scale_bwd",
        "# custom_vjp: bwd=scale_bwd",
        "# custom-vjp bwd=scale_bwd",
        "## custom-vjp: bwd=scale_bwd",
        "# Custom-VJP: bwd=scale_bwd",
        "# custom-vjp; bwd=scale_bwd",
        "# Custom-vjp= bwd=scale_bwd",
        "# custom-vjp(bwd=scale_bwd)",
        "#: custom vjp: bwd=scale_bwd",
    ],
)
def test_a_look_alike_becomes_an_annotation(look: Look, alike: str) -> None:
    view = look(RULE + alike + "\n" + BELOW)
    (fix,) = [fix for fix in fixes(view, "VJP004") if "annotation" in fix.title]
    assert applied(view.document, fix.edits) == RULE + GOOD + BELOW


def test_a_look_alike_within_another_comment(look: Look) -> None:
    view = look(RULE + "def scale(x):  # noqa: E1  # custom-vjp: bwd=scale_bwd\n    return x\n")
    (fix,) = [fix for fix in fixes(view, "VJP004") if "annotation" in fix.title]
    after = applied(view.document, fix.edits)
    assert "def scale(x):  # custom-vjp: bwd=scale_bwd  # noqa: E1\n" in after
    assert look(after).findings == ()


@pytest.mark.parametrize(
    ("bad", "good"),
    [
        ("# custom-vjp: bwd=scale_bwd  # vjpgen: ignore[VJP302]\n", GOOD),
        (
            "# custom-vjp: bwd=scale_bwd  # why  # vjpgen: ignore[VJP302]\n",
            "# custom-vjp: bwd=scale_bwd  # why\n",
        ),
        (GOOD + "# vjpgen: ignore[VJP302]\n", GOOD),
        ("# custom-vjp: bwd=scale_bwd  # vjpgen: ignore\n", GOOD),
    ],
)
def test_an_unused_suppression_is_removed(look: Look, bad: str, good: str) -> None:
    view = look(RULE + bad + BELOW)
    (fix,) = fixes(view, "VJP009")
    assert applied(view.document, fix.edits) == RULE + good + BELOW


def test_one_code_of_a_suppression_is_removed(look: Look) -> None:
    line = "# custom_vjp: bwd=scale_bwd  # vjpgen: ignore[VJP302, VJP004]\n"
    view = look(RULE + GOOD + BELOW + line)
    (fix,) = fixes(view, "VJP009")
    after = applied(view.document, fix.edits)
    assert "ignore[VJP004]" in after
    assert look(after).findings == ()


@pytest.mark.parametrize("rest", ["", "  # vjpgen: ignore[VJP302]"])
def test_a_warning_is_silenced_on_its_line(look: Look, rest: str) -> None:
    view = look(RULE + GOOD + BELOW + f"# custom_vjp: bwd=scale_bwd{rest}\n")
    (fix,) = [fix for fix in fixes(view, "VJP004") if fix.title.startswith("Ignore")]
    after = applied(view.document, fix.edits)
    assert "VJP004" in after
    assert "VJP004" not in {finding.code for finding in look(after).findings}


def test_an_error_cannot_be_silenced(look: Look) -> None:
    view = look("# custom-vjp: bwd=nowhere\n" + BELOW)
    assert not [fix for fix in fixes(view, "VJP101") if fix.title.startswith("Ignore")]


def test_a_blank_line_is_taken_out(look: Look) -> None:
    view = look(RULE + GOOD + "\n\n" + BELOW)
    (fix,) = fixes(view, "VJP005")
    assert applied(view.document, fix.edits) == RULE + GOOD + BELOW


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_skeletons_have_the_files_line_ends_and_blank_lines(look: Look, newline: str) -> None:
    text = f"import jax\n\n# why\n# custom-vjp: bwd=b\n{BELOW}".replace("\n", newline)
    view = look(text)
    (fix,) = fixes(view, "VJP101")
    assert applied(view.document, fix.edits) == (
        "import jax\n\n\ndef b(vjp_fn, y_t):\n    x_t, train_t = vjp_fn(y_t)\n"
        f"    return x_t, train_t\n\n\n# why\n# custom-vjp: bwd=b\n{BELOW}"
    ).replace("\n", newline)


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        ("# custom-vjp:", "# custom-vjp: bwd=scale_bwd"),
        ("# custom-vjp: missing=zero", "# custom-vjp: missing=zero, bwd=scale_bwd"),
        ("# custom-vjp: missing=zero,", "# custom-vjp: missing=zero, bwd=scale_bwd"),
        ("# custom-vjp: missing=zero  # why", "# custom-vjp: missing=zero, bwd=scale_bwd  # why"),
    ],
)
def test_the_key_of_a_new_rule_is_added(look: Look, annotation: str, expected: str) -> None:
    view = look(f"{annotation}\n{BELOW}")
    (fix,) = fixes(view, "VJP006")
    after = applied(view.document, fix.edits)
    assert f"\n{expected}\n" in after
    assert look(after).findings == ()


def test_a_new_name_is_a_new_one(look: Look) -> None:
    view = look(f"scale_bwd = 1\n\n\n# custom-vjp:\n{BELOW}")
    (fix,) = fixes(view, "VJP006")
    assert fix.title == "Write the backward rule `scale_bwd_2`"


@pytest.mark.parametrize(
    ("fwd", "bwd"),
    [
        (
            "def scale_fwd(x, w):\n    y, pull = jax.vjp(scale, x, w)\n    return y, pull\n",
            "def scale_bwd(vjp_fn, y_t):\n    x_t, w_t = vjp_fn(y_t)\n    return x_t, w_t\n",
        ),
        (
            "def scale_fwd(a, b):\n    return jax.vjp(lambda a: scale(a, b), a)\n",
            "def scale_bwd(vjp_fn, y_t):\n    (x_t,) = vjp_fn(y_t)\n    return x_t, None\n",
        ),
        (
            "def scale_fwd(x, w):\n    return x * w, (x, w)\n",
            "def scale_bwd(residuals, y_t):\n    x, w = residuals\n"
            "    _, vjp_fn = jax.vjp(scale, x, w)\n    x_t, w_t = vjp_fn(y_t)\n"
            "    return x_t, w_t\n",
        ),
        (
            "def scale_fwd(x, w):\n    z = x * w\n    return z, (x, z)\n",
            "def scale_bwd(residuals, y_t):\n    x, z = residuals\n"
            "    # One tangent for each slot: x_t, w_t\n    raise NotImplementedError\n",
        ),
        (
            "def scale_fwd(x, w):\n    return x * w, x\n",
            "def scale_bwd(residuals, y_t):\n    x = residuals\n"
            "    # One tangent for each slot: x_t, w_t\n    raise NotImplementedError\n",
        ),
    ],
)
def test_a_backward_rule_fits_what_the_forward_rule_saves(look: Look, fwd: str, bwd: str) -> None:
    text = (
        f"import jax\n\n\n{fwd}\n\n# custom-vjp: fwd=scale_fwd, bwd=scale_bwd\n"
        "def scale(x, w):\n    return x * w\n"
    )
    view = look(text)
    (fix,) = fixes(view, "VJP101")
    after = applied(view.document, fix.edits)
    assert f"\n\n\n{bwd}\n\n# custom-vjp" in after
    assert look(after).findings == ()


def test_a_forward_rule_fits_what_the_backward_rule_takes(look: Look) -> None:
    text = (
        "def b(res, y_t):\n    x, w = res\n    return w * y_t, x * y_t\n\n\n"
        "# custom-vjp: fwd=f, bwd=b\ndef scale(x, w):\n    return x * w\n"
    )
    view = look(text)
    (fix, *_) = [fix for fix in fixes(view, "VJP101") if fix.title.startswith("Write")]
    after = applied(view.document, fix.edits)
    assert "def f(x, w):\n    return scale(x, w), (x, w)\n" in after
    assert look(after).findings == ()


def test_a_rule_without_forward_function_can_get_one(look: Look) -> None:
    view = look(f"import jax\n\n\n{RULE}{GOOD}def scale(x):\n    return x\n")
    (action,) = actions(view, 8, 8)
    assert action.finding is None
    after = applied(view.document, action.edits)
    assert "# custom-vjp: fwd=scale_fwd, bwd=scale_bwd\n" in after
    assert look(after).findings == ()
    assert actions(view, 1, 2) == ()


@pytest.mark.parametrize(
    "text",
    [
        "# custom-vjp: bwd=b\nasync def f(x):\n    return x\n",
        "import flax.nnx as nnx\nclass A(nnx.Module):\n    # custom-vjp: bwd=b\n"
        "    def f(self, x):\n        return x\n",
        "# custom-vjp: bwd=b\n@wild\ndef f(x):\n    return x\n",
        "# custom-vjp: bwd=K.b\ndef f(x):\n    return x\n",
    ],
)
def test_no_skeleton_where_none_can_be_right(look: Look, text: str) -> None:
    found = actions(look(text), 1, 9)
    assert not [action for action in found if action.title.startswith("Write")]
