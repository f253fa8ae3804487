"""Generated names never meet the source's own, in whatever way the source spells or finds them."""

from __future__ import annotations

import re

import pytest

from vjpgen.compiler import Options, compile_source

STUB = """
class _vjpgen:
    @staticmethod
    def lift(primal, lifted, *, bwd, **options):
        assert callable(lifted) or isinstance(lifted, staticmethod)
        seen.append(bwd() if callable(bwd) else bwd)
        return primal
"""
RULE = "def rule(*tangents):\n    return tangents\n\n\n"


def executed(text: str) -> dict[str, object]:
    """The names of a generated module that ran with a runtime that does nothing."""
    result = compile_source((RULE + text).encode(), "m.py", options=Options("m.py"))
    assert result.diagnostics == ()
    assert result.output is not None
    found = re.search(
        r"from vjpgen\.runtime import interface_\d+ as (\w+)\n", result.output.decode()
    )
    assert found is not None
    body = result.output.decode().replace(found[0], STUB.replace("_vjpgen", found[1]))
    names: dict[str, object] = {"seen": [], "prefix": found[1].removesuffix("gen")}
    exec(compile(body, "m_vjp.py", "exec"), names)
    return names


@pytest.mark.parametrize(
    "text",
    [
        "_vjp_split = 1\n",
        "globals()['_vjpgen'] = 1\n",
        "def other(_vjp):\n    return _vjp\n",
        "class B:\n    _vjp_lifted_f = 1\n    __slots__ = ('_vjp_x',)\n",
        "def other():\n    global _vjp_state\n    _vjp_state = 1\n",
        "x = _\N{MATHEMATICAL ITALIC SMALL V}jp = 1\n",
        "import os as _vjp\n",
        "def other(*, _vjp_run=1): return lambda _vjp_run: 1\n",
    ],
)
def test_a_name_that_the_source_uses_is_left_to_it(text: str) -> None:
    names = executed(text + "\n\n# custom-vjp: bwd=rule\ndef f(x):\n    return x\n")
    assert names["prefix"] == "_vjp1"
    assert names["seen"] == [names["rule"]]


def test_the_next_prefix_is_free_as_well() -> None:
    text = "_vjp = _vjp1x = _vjp2 = 1\n\n\n# custom-vjp: bwd=rule\ndef f(x):\n    return x\n"
    assert executed(text)["prefix"] == "_vjp3"


def test_a_module_that_is_only_named_alike_changes_nothing() -> None:
    text = "model_vjp = 1\n\n\n# custom-vjp: bwd=rule\ndef f(x):\n    return x\n"
    assert executed(text)["prefix"] == "_vjp"


@pytest.mark.parametrize(
    "name", ["lift", "split", "_vjpgen_", "x", "self", "__x", "__x__", "_", "type"]
)
def test_a_function_and_its_parameter_may_have_any_name(name: str) -> None:
    executed(f"# custom-vjp: bwd=rule\ndef {name}({name}):\n    return {name}\n")
    text = (
        f"class A:\n    # custom-vjp: bwd=rule\n    def {name}(self, {name}):\n        return 1\n"
    )
    executed(text.replace("self, self", "self"))


def test_private_names_of_a_class_are_its_own() -> None:
    names = executed(
        "class __A_:\n"
        "    def __rule(self, *tangents):\n        return tangents\n\n"
        "    # custom-vjp: bwd=__rule\n"
        "    def __f(self, __x, *, __y=1):\n        return __x\n\n"
        "    def call(self):\n        return self.__f(5)\n"
    )
    assert names["seen"] == ["_A___rule"]
    made = names["__A_"]
    assert isinstance(made, type)
    assert hasattr(made, "_A___rule")
    assert made().call() == 5


@pytest.mark.parametrize(
    "head",
    [
        "import enum\n\n\nclass A(enum.Enum):\n    X = 1\n",
        "import typing\n\n\nclass A(typing.NamedTuple):\n    x: int = 1\n",
        "from dataclasses import dataclass\n\n\n@dataclass(slots=True)\nclass A:\n    x: int = 1\n",
        "class A:\n    __slots__ = ('x', 'f_')\n",
        "class A(type):\n    pass\n",
        "import typing\n\n\nclass A(typing.Protocol):\n    x: int\n",
    ],
    ids=["enum", "tuple", "dataclass", "slots", "metaclass", "protocol"],
)
def test_every_kind_of_class_takes_a_lifted_method(head: str) -> None:
    text = (
        head
        + "\n    # custom-vjp: bwd=rule, target=function\n    def f(self, x):\n        return x\n"
    )
    names = executed(text)
    assert names["seen"] == [names["rule"]]
    assert not any(str(name).startswith("_vjp") for name in getattr(names["A"], "__members__", ()))
