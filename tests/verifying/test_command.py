"""`vjpgen verify`: what is asked for, what is said, and the exit status."""

from __future__ import annotations

import json
import sys

import pytest

from tests.cli.conftest import BAD, GOOD, Folder, Run, folder, run  # noqa: F401 - fixtures
from vjpgen.verifying import process
from vjpgen.verifying.targets import find_targets

PATTERNS = GOOD + GOOD.partition("\n\n\n")[2].replace("def scale(", "def scale_two(")


def test_nothing_to_verify_starts_no_process(run: Run):  # noqa: F811
    found = run("verify")
    assert (found.exit_code, found.stdout) == (0, "")
    assert found.stderr == "no annotated function to verify\n"
    assert json.loads(run("verify", "--output-format", "json").stdout) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-k", "nothing"), "no rule fits nothing"),
        (("nowhere.py",), "no such file"),
        (("--directions", "0"), "--directions"),
        (("--seed", "-1"), "--seed"),
        (("--time-limit", "0"), "--time-limit"),
        (("--config", "none.toml"), "none.toml"),
    ],
)
def test_wrong_usage(folder: Folder, run: Run, arguments: tuple[str, ...], message: str):  # noqa: F811
    folder.write("model.py")
    found = run("verify", *arguments)
    assert (found.exit_code, message in found.stderr) == (2, True), found.stderr


def test_a_process_that_does_not_start(folder: Folder, run: Run, monkeypatch: pytest.MonkeyPatch):  # noqa: F811
    folder.write("model.py")
    monkeypatch.setattr(process, "_BOOT", "raise SystemExit('no jax')")
    found = run("verify")
    assert (found.exit_code, "did not start: exit status 1\nno jax" in found.stderr) == (2, True)


def test_a_wrong_configuration(folder: Folder, run: Run):  # noqa: F811
    folder.write("pyproject.toml", "[tool.vjpgen]\npahts = []\n")
    found = run("verify")
    assert (found.exit_code, "did you mean `paths`" in found.stderr) == (2, True), found.stderr


def test_errors_of_the_source_fail_its_rules(folder: Folder, run: Run):  # noqa: F811
    folder.write("model.py", BAD)
    found = run("verify", "-q")
    assert found.exit_code == 1
    assert "error: model.py has errors: VJP101; `vjpgen check` shows them" in found.stdout
    assert "did you mean `scale_bwd`" in found.stderr


def test_a_page(folder: Folder, run: Run):  # noqa: F811
    folder.write("model.py", BAD)
    found = run("verify", "--html", "page.html")
    assert found.exit_code == 1
    assert found.stderr.splitlines()[-2:] == ["1 rule: 1 error", "Wrote page.html"]
    assert "model.py has errors" in folder.read("page.html")


def test_reports_that_cannot_be_written(folder: Folder, run: Run):  # noqa: F811
    folder.write("model.py", BAD)
    found = run("verify", "-q", "--html", "nowhere/page.html")
    assert (found.exit_code, found.stdout) == (2, "")  # before anything is verified
    assert "no directory 'nowhere' to write 'nowhere/page.html' to" in found.stderr
    assert run("verify", "--html", ".").exit_code == 2


def test_patterns(folder: Folder):  # noqa: F811
    folder.write("a/model.py", PATTERNS)
    folder.write("b/model.py", GOOD)
    found = find_targets(["."])

    def chosen(*patterns: str) -> list[str]:
        return [each.id for each in found.selected(patterns)]

    every = ["a/model.py::scale", "a/model.py::scale_two", "b/model.py::scale"]
    assert chosen() == every
    assert chosen("scale") == [every[0], every[2]]
    assert chosen("cale") == every
    assert chosen("a/") == every[:2]
    assert chosen("a/model.py::scale") == every[:1]
    assert chosen("scale_*") == [every[1]]
    assert chosen("b/", "*_two") == every[1:]
    assert chosen("nothing") == []


def test_roots_and_what_is_excluded(folder: Folder):  # noqa: F811
    folder.write("pyproject.toml", '[tool.vjpgen]\npaths = ["src"]\nexclude = ["src/old"]\n')
    folder.write("src/pkg/__init__.py", "")
    for name in ("src/pkg/model.py", "src/old/model.py", "elsewhere.py"):
        folder.write(name)
    (target,) = find_targets(()).rules
    assert (target.id, target.root) == ("src/pkg/model.py::scale", str(folder.path / "src"))
    assert [each.id for each in find_targets(["src/old/model.py"]).rules]
    assert not find_targets(["src/old/model.py"], force_exclude=True).rules


def test_generated_modules_that_have_drifted_are_named(folder: Folder, run: Run):  # noqa: F811
    folder.write("model.py")
    folder.write("other.py")
    assert run("build", "-q").exit_code == 0
    folder.write("model.py", GOOD.replace("3 * x", "4 * x"))
    folder.write("third.py")
    assert find_targets(["."]).drifted == ("model_vjp.py",)
    assert "jax" not in sys.modules or find_targets(["other.py"]).drifted == ()
