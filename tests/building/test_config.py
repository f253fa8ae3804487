"""The table `[tool.vjpgen]`."""

from __future__ import annotations

from typing import Any

import pytest

from tests.building.conftest import Tree
from vjpgen.compiler.values import KEYS
from vjpgen.config import MISSING_POLICIES, Config, ConfigError, load_config, parse_config
from vjpgen.diagnostics.selection import Selection

WHOLE = """
[tool.vjpgen]
paths = ["src"]
exclude = ["old"]
suffix = "_rules"
out-dir = "out"
missing = "zero"
select = ["VJP1", "VJP2"]
extend-select = ["VJP304"]
ignore = ["VJP103"]

[tool.vjpgen.per-file-ignores]
"tests/*" = ["VJP2"]
"""


def test_every_key(tree: Tree):
    root = tree({"pyproject.toml": WHOLE})
    assert load_config(str(root / "pyproject.toml")) == Config(
        paths=("src",),
        exclude=("old",),
        suffix="_rules",
        out_dir="out",
        missing="zero",
        selection=Selection(
            select=("VJP1", "VJP2"),
            extend_select=("VJP304",),
            ignore=("VJP103",),
            per_file_ignores=(("tests/*", ("VJP2",)),),
        ),
    )


@pytest.mark.parametrize("text", ["", "[tool]\n", "[tool.vjpgen]\n", "[project]\nname = 'x'\n"])
def test_nothing_said_is_the_default(tree: Tree, text: str):
    assert load_config(str(tree({"p.toml": text}) / "p.toml")) == Config()


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"excludes": []}, "unknown key `excludes`; did you mean `exclude`?"),
        ({"per_file_ignores": {}}, "did you mean `per-file-ignores`?"),
        ({"zzz": 1}, "unknown key `zzz`"),
        ({"paths": "src"}, "`paths` wants a list of strings, not a string"),
        ({"exclude": ["a", 1]}, "`exclude` wants a string, not a number"),
        ({"suffix": True}, "`suffix` wants a string, not a boolean"),
        ({"suffix": ""}, "`suffix` wants letters"),
        ({"suffix": ".gen"}, "`suffix` wants letters"),
        ({"suffix": "/../x"}, "`suffix` wants letters"),
        ({"out-dir": ""}, "`out-dir` wants the name of a folder"),
        ({"out_dir": "out"}, "did you mean `out-dir`?"),
        ({"missing": "zeros"}, "did you mean `zero`?"),
        ({"missing": None}, "`missing` wants a string"),
        ({"select": ["VJP7"]}, "no code begins with `VJP7`"),
        ({"ignore": ["VPJ302"]}, "did you mean `VJP302`?"),
        ({"select": [""]}, "no code begins with ``"),
        ({"per-file-ignores": ["VJP1"]}, "`per-file-ignores` wants a table"),
        ({"per-file-ignores": {"a": "VJP1"}}, "wants a list of strings"),
    ],
)
def test_what_is_wrong_is_said(table: dict[str, Any], said: str):
    with pytest.raises(ConfigError) as caught:
        parse_config(table)
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["[tool.vjpgen", "tool.vjpgen = 3", "\xff"])
def test_a_file_that_cannot_be_read_is_named(tree: Tree, text: str):
    path = tree({}) / "p.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"p\.toml"):
        load_config(str(path))
    with pytest.raises(ConfigError, match="nowhere"):
        load_config(str(path.parent / "nowhere.toml"))


def test_patterns_of_files(tree: Tree):
    from vjpgen.building.projects import Projects

    table = '[tool.vjpgen.per-file-ignores]\n"tests/*" = ["VJP2"]\n"!src/**" = ["VJP1"]\n'
    root = tree({"pyproject.toml": table})
    project = Projects(None, str(root)).of(str(root))
    assert project.patterns_of(str(root / "tests" / "a.py")) == ("tests/*", "!src/**")
    assert project.patterns_of(str(root / "src" / "a.py")) == ()


def test_the_policies_are_those_of_annotations():
    assert KEYS["missing"].choices == MISSING_POLICIES
