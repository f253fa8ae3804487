"""Which files a walk finds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.building.conftest import Tree
from vjpgen.building.projects import Projects
from vjpgen.building.walk import walk


def _found(folder: Path) -> list[str]:
    errors: list[str] = []
    projects = Projects(None, str(folder))
    folders = walk(str(folder), "", projects, lambda name, error: errors.append(name))
    files = (file for each in folders for file in each.files())
    names = [file.shown.replace(os.sep, "/") for file in files if not file.ignored]
    return sorted(names + [f"! {name}" for name in errors])


def test_python_files_and_no_others(tree: Tree):
    root = tree({"a.py": "", "b.txt": "", "c.pyi": "", "pkg/d.py": "", "pkg/deep/e.py": ""})
    assert _found(root) == ["a.py", "pkg/d.py", "pkg/deep/e.py"]


def test_the_usual_folders_are_passed_over(tree: Tree):
    names = [".git", ".venv", "node_modules", "__pycache__", "build", "dist", ".tox"]
    root = tree({f"{name}/a.py": "" for name in names} | {"own/pyvenv.cfg": "", "own/a.py": ""})
    assert _found(root) == []


def test_a_package_named_build_is_none_of_them(tree: Tree):
    assert _found(tree({"build/__init__.py": "", "build/a.py": ""})) == [
        "build/__init__.py",
        "build/a.py",
    ]


def test_a_folder_named_like_a_module(tree: Tree):
    assert _found(tree({"x.py/y.py": ""})) == ["x.py/y.py"]


def test_links(tree: Tree):
    root = tree({"pkg/a.py": ""})
    (root / "pkg" / "loop").symlink_to(root)
    (root / "self.py").symlink_to("self.py")
    (root / "broken.py").symlink_to("nowhere.py")
    (root / "b.py").symlink_to("pkg/a.py")
    assert _found(root) == ["b.py", "pkg/a.py"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_what_is_no_regular_file(tree: Tree):
    root = tree({})
    os.mkfifo(root / "pipe.py")
    assert _found(root) == []


def test_nested_gitignore_files(tree: Tree):
    root = tree(
        {
            ".gitignore": "*_old.py\n/out\nsub/x.py\n",
            "a_old.py": "",
            "out/a.py": "",
            "pkg/out/a.py": "",
            "pkg/.gitignore": "!keep_old.py\nlocal.py\n",
            "pkg/keep_old.py": "",
            "pkg/drop_old.py": "",
            "pkg/local.py": "",
            "sub/x.py": "",
            "sub/local.py": "",
        }
    )
    assert _found(root) == ["pkg/keep_old.py", "pkg/out/a.py", "sub/local.py"]


def test_gitignore_files_above_the_start_hold_up_to_the_repository(tree: Tree):
    root = tree(
        {
            ".gitignore": "b.py\n",
            "repo/.git/config": "",
            "repo/.gitignore": "pkg/a.py\n",
            "repo/pkg/a.py": "",
            "repo/pkg/b.py": "",
        }
    )
    assert _found(root / "repo" / "pkg") == ["b.py"]


def test_an_ignored_folder_that_is_named_is_walked(tree: Tree):
    root = tree({".git/config": "", ".gitignore": "out/\nb.py\n", "out/a.py": "", "out/b.py": ""})
    assert _found(root) == []
    assert "a.py" in _found(root / "out")


def test_exclude_of_the_configuration(tree: Tree):
    root = tree(
        {
            "pyproject.toml": '[tool.vjpgen]\nexclude = ["gen", "/a.py", "pkg/b_*.py"]\n',
            "a.py": "",
            "pkg/a.py": "",
            "pkg/b_1.py": "",
            "pkg/gen/c.py": "",
        }
    )
    assert _found(root) == ["pkg/a.py"]


def test_a_folder_that_cannot_be_read(tree: Tree, monkeypatch: pytest.MonkeyPatch):
    root = tree({"a.py": "", "shut/b.py": ""})
    real = os.scandir

    def scandir(path: str):
        if path.endswith("shut"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert _found(root) == ["! shut", "a.py"]


def test_a_deep_tree(tree: Tree):
    root = tree({})
    folder = root
    for _ in range(300):
        folder = folder / "d"
        try:
            folder.mkdir()
        except OSError:
            break
    (folder.parent / "a.py").write_text("")
    assert len(_found(root)) == 1
