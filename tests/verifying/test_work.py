"""What the child does for a rule, here in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import pytest

from tests.verifying.conftest import RULES, rule
from vjpgen.testing.report import RuleReport
from vjpgen.verifying.requests import Manner, Request
from vjpgen.verifying.targets import find_targets
from vjpgen.verifying.work import Worker

Verify = Callable[..., dict[str, RuleReport]]


@pytest.fixture
def verify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Verify]:
    """Verify the rules of a source in this process; its settings and modules are put back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "pyproject.toml").write_text("")
    x64, before = jax.config.read("jax_enable_x64"), set(sys.modules)

    def call(text: str, name: str = "model_to_verify.py", **manner: int) -> dict[str, RuleReport]:
        (tmp_path / name).write_text(text)
        jax.config.update("jax_enable_x64", x64)
        worker = Worker()
        reports = {}
        for target in find_targets([name]).rules:
            info = target.info
            request = Request(target.path, info.name, name, 1, 1, info.keys, Manner(**manner))
            assert Request.from_line(request.as_line()) == request
            reports[info.name] = worker.load(request) or worker.verify(request)
        return reports

    yield call
    jax.config.update("jax_enable_x64", x64)
    for each in set(sys.modules) - before:
        if (getattr(sys.modules[each], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[each]


CLIP = """\
def clip_bwd(vjp_fn, y_t):
    return (y_t,)


def clip_example():
    return [(jnp.array([0.25, -0.5]),), (jnp.array([0.25, 2.0]),)]


def inside():
    return [(jnp.array([0.25, -0.5]),), (jnp.array([0.75]),)]


# custom-vjp: bwd=clip_bwd, example=clip_example, surrogate=x
def clip(x):
    return jnp.clip(x, -1, 1)


# custom-vjp: bwd=clip_bwd, example=inside, surrogate=x
def stale(x):
    return jnp.clip(x, -1, 1)


# custom-vjp: bwd=clip_bwd, example=clip_example, exact=x
def wrong(x):
    return jnp.clip(x, -1, 1)
"""


def test_every_set_of_arguments_counts(verify: Verify):
    found = verify(RULES + CLIP)
    assert {name: each.status for name, each in found.items()} == {
        "clip": "verified",
        "stale": "failed",
        "wrong": "failed",
    }
    assert all(each.message.startswith("set 2: ") for each in found["wrong"].errors)
    (leaf,) = found["wrong"].leaves
    assert leaf.relation == "different"


PRECISION = """\
IMPORTED = jnp.zeros(1).dtype.name


def checked():
    x = jnp.ones(2)
    assert (IMPORTED, x.dtype.name) == ("float32", "float32")
    assert jax.config.read("jax_enable_x64") is False
    return (x,)


"""


def test_examples_have_their_own_precision(verify: Verify):
    with jax.enable_x64(False):
        (report,) = verify(RULES + PRECISION + rule("f", example="checked", exact="x")).values()
    assert report.status == "verified"
    assert report.leaves[0].dtype == "float32"
    assert report.leaves[0].error < 1e-9


def test_a_seed_gives_the_same_again_and_another_other_numbers(verify: Verify):
    text = RULES + rule("f", bwd="twice", example="example", exact="x")
    first, again = (verify(text, f"model_{n}.py", seed=5)["f"] for n in range(2))
    other = verify(text, "model_2.py", seed=6)["f"]
    assert first.status == "failed"
    assert (first.findings, first.leaves) == (again.findings, again.leaves)
    assert first.leaves[0].custom != other.leaves[0].custom


NESTED = """\
def outer(x):
    # custom-vjp: fwd=fwd, bwd={bwd}, example=example, {claim}
    def inner(y):
        return jnp.sin(y)

    return 2 * {call}
"""
IN_A_TRACE = "jax.jit(inner)(x)"


@pytest.mark.parametrize(
    ("bwd", "claim", "status"),
    [
        ("bwd", "exact=y", "verified"),
        ("twice", "exact=True", "failed"),
        ("bwd", "surrogate=y", "failed"),
    ],
)
def test_a_nested_rule_is_verified_by_itself(verify: Verify, bwd: str, claim: str, status: str):
    (report,) = verify(RULES + NESTED.format(bwd=bwd, claim=claim, call="inner(x)")).values()
    assert (report.name, report.status) == ("outer.<locals>.inner", status)
    assert report.filename == "model_to_verify.py"
    assert [leaf.slot for leaf in report.leaves] == ["y"]
    assert report.residual_bytes is not None


SEVERAL = """def outer(x):
    def back(flag, x, y_t):
        return (({factor} if flag else 1) * y_t * jnp.cos(x),)

    # custom-vjp: fwd=lambda y, flag: fwd(y), bwd=back, nondiff_argnums=1, example=example, exact=y
    def inner(y, flag):
        return jnp.sin(y)

    return inner(x, False) + inner(2 * x, False) + inner(x, True)
"""


@pytest.mark.parametrize(("factor", "status"), [(1, "verified"), (7, "failed")])
def test_a_nested_rule_is_verified_on_calls_that_differ(verify: Verify, factor: int, status: str):
    (report,) = verify(RULES + SEVERAL.format(factor=factor)).values()
    assert report.status == status
    assert all(each.message.startswith("call 2: ") for each in report.errors)


@pytest.mark.parametrize(
    ("bwd", "claim", "status"),
    [("twice", "exact=True", "failed"), ("bwd", "surrogate=True", "failed")],
)
def test_a_rule_in_a_trace_is_tested_through_the_function_around(
    verify: Verify, bwd: str, claim: str, status: str
):
    (report,) = verify(RULES + NESTED.format(bwd=bwd, claim=claim, call=IN_A_TRACE)).values()
    assert report.status == status
    assert [leaf.slot for leaf in report.leaves] == ["x"]


def test_a_nested_rule_that_is_not_called(verify: Verify):
    (report,) = verify(RULES + NESTED.format(bwd="bwd", claim="exact=y", call="x")).values()
    assert report.status == "unverified"
    assert "does not call `outer.<locals>.inner` on its example" in report.findings[0].message


def test_a_primal_that_is_not_the_sources_fails(verify: Verify, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vjpgen.verifying.work.is_faithful", lambda *codes: False)
    (report,) = verify(RULES + rule("f", example="example", exact="x")).values()
    assert report.status == "failed"
    assert [each.check for each in report.errors] == ["primal"]


SETS = """\
def maybe():
    return [(jnp.ones(3), None), (jnp.ones(3), jnp.array([1.0, 2.0, 3.0]))]


# custom-vjp: bwd=maybe_bwd, example=maybe, exact=(x, y)
def product(x, y):
    return x if y is None else x * y


def maybe_bwd(vjp_fn, y_t):
    return vjp_fn(y_t)


def tree():
    return [({"a": jnp.array([0.25])},), ({"a": jnp.array([2.0])},)]


# custom-vjp: bwd=tree_bwd, example=tree, surrogate=t
def clip(t):
    return jnp.clip(t["a"], -1, 1)


def tree_bwd(vjp_fn, y_t):
    return ({"a": y_t},)


# custom-vjp: bwd=where_bwd, example=example
def where(x):
    return jnp.argmax(x)


def where_bwd(vjp_fn, y_t):
    return (y_t,)


def outer(x):
    # custom-vjp: fwd=inner_fwd, bwd=inner_bwd, example=example, exact=True
    def inner(x, alpha=2.0, eps=1.0):
        return x * alpha * eps

    def inner_fwd(x, alpha=2.0, eps=1.0):
        return x * alpha * eps, (x, alpha * eps)

    def inner_bwd(residuals, y_t):
        return y_t * residuals[1], -99 * jnp.sum(y_t), None

    return inner(x)
"""


def test_what_sets_and_nested_rules_leave_out(verify: Verify):
    found = verify(RULES + SETS)
    assert {name: each.status for name, each in found.items()} == {
        "product": "verified",
        "clip": "verified",
        "where": "unverified",
        "outer.<locals>.inner": "failed",
    }
    assert not [each for each in found["product"].findings if each.severity != "note"]
    inner = found["outer.<locals>.inner"]
    assert {each.leaf for each in inner.errors} == {"alpha"}
    assert [each.leaf for each in inner.findings if each.severity == "warning"] == ["eps"]
