"""Which imports lead to generated modules."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.building.conftest import GOOD, Tree
from vjpgen.building.gather import gather
from vjpgen.building.projects import Packages, Projects
from vjpgen.building.siblings import Neighbourhoods
from vjpgen.cli import group
from vjpgen.compiler import Siblings


def _seen_from(root: Path, name: str) -> Siblings:
    projects = Projects(None, str(root))
    gathered = gather([name], projects)
    (file,) = (each.file for each in gathered.sources if each.file.shown == name)
    return Neighbourhoods(projects, Packages(), {}).seen_from(file)


def test_names_start_at_the_package_root(tree: Tree):
    root = tree(
        {
            "pyproject.toml": "",
            "src/pkg/__init__.py": GOOD,
            "src/pkg/a.py": GOOD,
            "src/pkg/sub/__init__.py": "",
            "src/pkg/sub/b.py": GOOD,
            "src/pkg/plain.py": "",
            "src/pkg/text.py": '"""# custom-vjp: bwd=b"""',
        }
    )
    siblings = _seen_from(root, "src/pkg/a.py")
    assert siblings.annotated("pkg.a")
    assert siblings.annotated("pkg.sub.b")
    for name in ("pkg", "pkg.plain", "pkg.text", "a", "pkg.sub", "jax", None):
        assert not siblings.annotated(name)


@pytest.mark.parametrize("init", [True, False])
def test_relative_imports_with_and_without_init(tree: Tree, init: bool):
    files = {"pyproject.toml": "", "pkg/a.py": GOOD, "pkg/sub/b.py": GOOD, "pkg/sub/c.py": GOOD}
    if init:
        files |= {"pkg/__init__.py": "", "pkg/sub/__init__.py": ""}
    siblings = _seen_from(tree(files), "pkg/sub/b.py")
    assert siblings.annotated(siblings.absolute("c", 1))
    assert siblings.annotated(siblings.absolute("a", 2))
    assert not siblings.annotated(siblings.absolute("b", 2))
    assert siblings.annotated("pkg.sub.c")


def test_names_of_other_roots(tree: Tree):
    root = tree(
        {
            "pyproject.toml": "",
            "src/pkg/__init__.py": "",
            "src/pkg/a.py": GOOD,
            "scripts/train.py": GOOD,
            "scripts/json.py": GOOD,
            "other/model.py": GOOD,
            "third/model.py": "",
            "tools/run.py": GOOD,
            "tools/helper.py": "",
            "scripts/helper.py": GOOD,
        }
    )
    from_scripts = _seen_from(root, "scripts/train.py")
    assert from_scripts.annotated("pkg.a")
    assert from_scripts.annotated("json")
    assert from_scripts.annotated("helper")
    from_tools = _seen_from(root, "tools/run.py")
    assert from_tools.annotated("pkg.a")
    for hidden in ("model", "json", "helper"):
        assert not from_tools.annotated(hidden), hidden


def test_other_projects_are_not_seen(tree: Tree):
    root = tree(
        {
            "pyproject.toml": "",
            "a.py": GOOD,
            "inner/pyproject.toml": "",
            "inner/b.py": GOOD,
        }
    )
    assert not _seen_from(root, "a.py").annotated("b")
    assert not _seen_from(root, "inner/b.py").annotated("a")


@pytest.mark.parametrize("marker", ["pyproject.toml", "pkg/pyproject.toml"])
def test_a_package_that_holds_its_own_project_file(tree: Tree, marker: str):
    root = tree({marker: "", "pkg/__init__.py": "", "pkg/a.py": GOOD, "pkg/b.py": GOOD})
    siblings = _seen_from(root, "pkg/b.py")
    assert siblings.annotated("pkg.a")
    assert siblings.annotated(siblings.absolute("a", 1))
    assert not siblings.annotated("a")


@pytest.mark.parametrize("marker", ["pyproject.toml", "README"])
def test_one_file_gives_the_same_bytes_as_all(
    tree: Tree, marker: str, monkeypatch: pytest.MonkeyPatch
):
    root = tree(
        {
            marker: "",
            "src/pkg/__init__.py": "",
            "src/pkg/a.py": "from . import b\nfrom pkg.sub import c as d\n\n\n" + GOOD,
            "src/pkg/b.py": GOOD,
            "src/pkg/sub/__init__.py": "",
            "src/pkg/sub/c.py": "import pkg.a as a\nfrom ..b import scale as s\n\n\n" + GOOD,
        }
    )

    def outputs(*args: str) -> dict[str, str]:
        assert CliRunner().invoke(group, ["build", *args], catch_exceptions=False).exit_code == 0
        found = {path: path.read_text() for path in root.rglob("*_vjp.py")}
        for path in found:
            path.unlink()
        return {path.name: text for path, text in found.items()}

    every = outputs(".")
    assert "from . import b_vjp as b" in every["a_vjp.py"]
    assert "pkg.a_vjp" in every["c_vjp.py"]
    assert outputs("src") == outputs("src/pkg") == every
    for name, path in (("a", "src/pkg/a.py"), ("c", "src/pkg/sub/c.py")):
        assert outputs(path) == {f"{name}_vjp.py": every[f"{name}_vjp.py"]}
    assert outputs("src/pkg/a.py", "src/pkg/b.py", "src/pkg/sub") == every
    assert outputs(str(root)) == every
    monkeypatch.chdir(root / "src" / "pkg" / "sub")
    assert outputs("../../..") == outputs("..") == every


def test_modules_are_found_by_the_names_they_are_imported_by(tree: Tree):
    root = tree(
        {
            "pyproject.toml": "",
            "src/pkg/__init__.py": "from .a import scale\n",
            "src/pkg/a.py": GOOD,
            "src/pkg/sub/__init__.py": "from .deep import *\n",
            "src/pkg/sub/deep.py": "from ..a import scale as scaled\n",
            "scripts/train.py": GOOD,
            "scripts/tools/own.py": "from .more import scale\n",
            "scripts/tools/more.py": GOOD,
            "scripts/json.py": "from pkg import scale\n",
        }
    )
    scale = ("pkg.a", "scale")
    for name in ("scripts/train.py", "src/pkg/a.py"):
        siblings = _seen_from(root, name)
        assert siblings.origin("pkg", "scale") == scale
        assert siblings.origin("pkg.sub", "scaled") == scale
        assert siblings.starred("pkg.sub") == (("scaled", scale),)
        assert siblings.origin("src.pkg", "scale") == ("src.pkg.a", "scale")
        assert siblings.origin("flax", "scale") is None
    from_scripts = _seen_from(root, "scripts/train.py")
    assert from_scripts.origin("scripts.tools.own", "scale") == ("scripts.tools.more", "scale")
    assert from_scripts.origin("json", "scale") == scale
    assert _seen_from(root, "src/pkg/a.py").origin("json", "scale") is None


def test_what_an_init_hands_on_is_redirected_by_a_build(tree: Tree):
    root = tree(
        {
            "pyproject.toml": "",
            "pkg/__init__.py": "from .a import scale\n",
            "pkg/a.py": GOOD,
            "pkg/b.py": "from pkg import scale as s\n\n\n" + GOOD,
        }
    )
    assert CliRunner().invoke(group, ["build", "pkg/b.py"]).exit_code == 0
    assert "from pkg.a_vjp import scale as s\n" in (root / "pkg/b_vjp.py").read_text()
    (root / "pkg/__init__.py").write_text("def scale(): ...\n")
    assert CliRunner().invoke(group, ["build", "--check", "pkg"]).exit_code == 1
    assert CliRunner().invoke(group, ["build", "pkg"]).exit_code == 0
    assert "from pkg import scale as s\n" in (root / "pkg/b_vjp.py").read_text()
