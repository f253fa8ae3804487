"""Where the names of mirrored files begin."""

from __future__ import annotations

import pytest

from tests.building.conftest import Tree
from vjpgen.building.layout import Layouts
from vjpgen.building.projects import Packages, Projects

PLACES = {
    "src/pkg/__init__.py": "pkg/__init__.py",
    "src/pkg/a.py": "pkg/a.py",
    "src/pkg/data/x.json": "pkg/data/x.json",
    "src/pkg/data/deep/run.py": "pkg/data/deep/run.py",
    "src/pkg/plain/inner/__init__.py": "pkg/plain/inner/__init__.py",
    "src/space/mod.py": "space/mod.py",
    "src/space/pkg2/__init__.py": "space/pkg2/__init__.py",
    "src/space/pkg2/x.json": "space/pkg2/x.json",
    "src/one.py": "one.py",
    "lib/pkg3/__init__.py": "pkg3/__init__.py",
    "lib/pkg3/sub/__init__.py": "pkg3/sub/__init__.py",
    "lib/helper.py": "helper.py",
    "scripts/train.py": "scripts/train.py",
    "scripts/deep/more.py": "scripts/deep/more.py",
    "top.py": "top.py",
    "flat/__init__.py": "flat/__init__.py",
    "flat/src/a.py": "flat/src/a.py",
}


@pytest.mark.parametrize("start", [".", "src", "src/pkg", "lib/pkg3/sub", "src/space/mod.py"])
def test_names_do_not_depend_on_what_is_built(tree: Tree, start: str):
    root = tree({"pyproject.toml": "", **dict.fromkeys(PLACES, "")})
    projects = Projects(None, str(root / start), str(root / "out"))
    layouts = Layouts(Packages())
    found = {}
    for name in PLACES:
        path = root / name
        project = projects.of(str(path.parent))
        assert project.out is not None
        found[name] = layouts.mirrored(project.out, project).name(str(path), project)
    assert found == PLACES


@pytest.mark.parametrize(
    ("folder", "inside"),
    [
        ("src/pkg", True),
        ("src/pkg/data", True),
        ("src/space", True),
        ("src/space/only_data", True),
        ("src/native", False),
        ("src", False),
        ("scripts", False),
        (".", False),
        ("flat/deep", True),
    ],
)
def test_which_folders_belong_to_a_package(tree: Tree, folder: str, inside: bool):
    files = {"src/native/a.cc": "", "src/space/only_data/x": "", "flat/deep/x": ""}
    root = tree({"pyproject.toml": "", **dict.fromkeys(PLACES, ""), **files})
    projects = Projects(None, str(root), "out")
    path = str(root / folder) if folder != "." else str(root)
    assert Layouts(Packages()).inside_package(path, projects.of(path)) == inside


def test_a_package_that_is_called_src(tree: Tree):
    root = tree({"pyproject.toml": "", "src/__init__.py": "", "src/a.py": ""})
    project = Projects(None, str(root), "out").of(str(root))
    assert project.out is not None
    layout = Layouts(Packages()).mirrored(project.out, project)
    assert layout.name(str(root / "src" / "a.py"), project) == "src/a.py"


@pytest.mark.parametrize("marker", ["pkg/pyproject.toml", "pkg/sub/pyproject.toml"])
def test_a_package_that_holds_its_own_project_file(tree: Tree, marker: str):
    root = tree({marker: "", "pkg/__init__.py": "", "pkg/sub/__init__.py": "", "pkg/sub/a.py": ""})
    projects = Projects(None, str(root / "pkg"), str(root / "out"))
    path = root / "pkg" / "sub" / "a.py"
    project = projects.of(str(path.parent))
    assert project.out is not None
    layout = Layouts(Packages()).mirrored(project.out, project)
    assert layout.name(str(path), project) == "pkg/sub/a.py"
