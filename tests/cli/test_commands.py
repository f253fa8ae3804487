"""`check`, `list`, `clean`, `explain`, and what all commands share."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import BAD, GOOD, PLAIN, WARNS, Folder, Run
from vjpgen._version import __version__


def test_check_reports_and_writes_nothing(folder: Folder, run: Run):
    folder.write("a.py", BAD)
    folder.write("b.py")
    result = run("check")
    assert result.exit_code == 1
    assert "error[VJP101]" in result.stdout
    assert folder.names() == ["a.py", "b.py", "pyproject.toml"]


def test_check_of_good_sources(folder: Folder, run: Run):
    folder.write("a.py")
    folder.write("b.py", WARNS)
    assert run("check", "a.py").exit_code == 0
    result = run("check", "b.py")
    assert result.exit_code == 0
    assert "warning[VJP009]" in result.stdout


@pytest.mark.parametrize("command", ["build", "check"])
@pytest.mark.parametrize("text", [GOOD, BAD, WARNS])
def test_every_format_prints_what_it_should(folder: Folder, run: Run, command: str, text: str):
    folder.write("model.py", text)
    assert isinstance(json.loads(run(command, "--output-format", "json").stdout), list)
    sarif = json.loads(run(command, "--output-format", "sarif").stdout)
    assert sarif["version"] == "2.1.0"
    lines = run(command, "--output-format", "github").stdout.splitlines()
    assert all(line.startswith(("::error ", "::warning ")) for line in lines)
    assert len(lines) == (text != GOOD)


def test_json_has_the_shape_of_ruffs(folder: Folder, run: Run):
    folder.write("model.py", BAD)
    (item,) = json.loads(run("check", "--output-format", "json").stdout)
    assert set(item) == {
        *("code", "message", "filename", "location", "end_location", "severity", "help", "url")
    }
    assert item["location"] == {"row": 6, "column": 19}
    assert item["end_location"] == {"row": 6, "column": 29}
    assert (item["code"], item["severity"], item["filename"]) == ("VJP101", "error", "model.py")


def test_list_as_a_table(folder: Folder, run: Run):
    folder.write("model.py")
    result = run("list")
    assert result.exit_code == 0
    assert result.stdout == (
        "FUNCTION  TARGET    WHERE       RULE\nscale     function  model.py:6  bwd=scale_bwd\n"
    )


def test_list_as_json(folder: Folder, run: Run):
    folder.write("pkg/model.py", GOOD.replace("scale_bwd\ndef", "scale_bwd, missing=zero\ndef"))
    (item,) = json.loads(run("list", "--output-format", "json").stdout)
    assert item == {
        "name": "scale",
        "target": "function",
        "filename": "pkg/model.py",
        "location": {"row": 6, "column": 1},
        "bwd": "scale_bwd",
        "missing": "zero",
    }


def test_list_of_nothing(run: Run):
    assert run("list").output == ""
    assert json.loads(run("list", "--output-format", "json").stdout) == []


def test_list_keeps_findings_apart(folder: Folder, run: Run):
    folder.write("a.py", GOOD.replace("(x):", "(x)"))
    folder.write("b.py")
    result = run("list", "--output-format", "json")
    assert result.exit_code == 1
    assert [item["filename"] for item in json.loads(result.stdout)] == ["b.py"]
    assert "VJP008" in result.stderr


def test_clean_removes_what_vjpgen_wrote(folder: Folder, run: Run):
    folder.write(".gitignore", "*_vjp.py\n")
    folder.write("a.py")
    folder.write("pkg/b.py")
    folder.write("c_vjp.py", PLAIN)
    run("build")
    assert "pkg/b_vjp.py" in folder.names()
    result = run("clean")
    assert result.exit_code == 0
    assert "Removed a_vjp.py" in result.stderr
    left = [".gitignore", "a.py", "c_vjp.py", "pkg/b.py", "pyproject.toml"]
    assert folder.names() == left


def test_clean_keeps_what_was_edited_by_hand(folder: Folder, run: Run):
    folder.write("a.py")
    run("build")
    folder.write("a_vjp.py", folder.read("a_vjp.py") + "# by hand\n")
    result = run("clean")
    assert result.exit_code == 1
    assert "a_vjp.py was edited by hand and was kept" in result.stdout
    assert "a_vjp.py" in folder.names()


def test_clean_of_one_source_removes_its_module(folder: Folder, run: Run):
    folder.write("a.py")
    folder.write("b.py")
    run("build")
    run("clean", "a.py")
    assert folder.names() == ["a.py", "b.py", "b_vjp.py", "pyproject.toml"]


def test_version_and_help(run: Run):
    assert run("--version").stdout == f"vjpgen {__version__}\n"
    for command in ("build", "check", "clean", "explain", "list"):
        assert command in run("--help").stdout
        assert run(command, "--help").exit_code == 0


@pytest.mark.parametrize(
    "args", [["nothing"], ["build", "--nothing"], ["build", "--output-format", "x"]]
)
def test_wrong_usage(run: Run, args: list[str]):
    assert run(*args).exit_code == 2


def test_a_command_that_is_not_there(run: Run):
    assert "did you mean `build`?" in run("buidl").stderr
    assert "no command is called `zzz`\n" in run("zzz").stderr


@pytest.mark.parametrize("command", ["build", "check", "list", "clean"])
@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("sufix = '_v'", "unknown key `sufix`; did you mean `suffix`?"),
        ("suffix = 3", "`suffix` wants a string, not a number"),
        ("= 3", "pyproject.toml"),
    ],
)
def test_a_wrong_configuration(folder: Folder, run: Run, command: str, table: str, said: str):
    folder.write("pyproject.toml", f"[tool.vjpgen]\n{table}\n")
    folder.write("model.py")
    result = run(command)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "model_vjp.py" not in folder.names()


def test_another_configuration(folder: Folder, run: Run):
    folder.write("other.toml", '[tool.vjpgen]\nsuffix = "_rules"\nexclude = ["pkg/b.py"]\n')
    folder.write("pkg/pyproject.toml", '[tool.vjpgen]\nsuffix = "_mine"\n')
    folder.write("pkg/a.py")
    folder.write("pkg/b.py")
    run("build", "--config", "other.toml")
    assert [name for name in folder.names() if name.startswith("pkg/a_")] == ["pkg/a_rules.py"]
    assert "pkg/b_rules.py" not in folder.names()
    assert run("build", "--config", "nowhere.toml").exit_code == 2


def test_the_nearest_configuration_holds(folder: Folder, run: Run):
    folder.write("pkg/pyproject.toml", '[tool.vjpgen]\nsuffix = "_mine"\n')
    folder.write("pkg/deep/a.py")
    folder.write("b.py")
    run("build")
    assert {"pkg/deep/a_mine.py", "b_vjp.py"} <= set(folder.names())


def test_select_and_ignore(folder: Folder, run: Run):
    folder.write("model.py", WARNS)
    folder.write("pyproject.toml", '[tool.vjpgen]\nignore = ["VJP009"]\n')
    assert run("check").stdout == ""
    folder.write("pyproject.toml", '[tool.vjpgen.per-file-ignores]\n"mod*.py" = ["VJP0"]\n')
    assert run("check").stdout == ""
    folder.write("pyproject.toml", '[tool.vjpgen]\nselect = ["VJP3"]\n')
    assert run("check").stdout == ""
    folder.write("pyproject.toml", '[tool.vjpgen]\nselect = ["VJP3"]\nextend-select = ["VJP009"]')
    assert "VJP009" in run("check").stdout


def test_an_error_without_output_cannot_be_silenced(folder: Folder, run: Run):
    folder.write("model.py", BAD.replace("bwdd\n", "bwdd  # vjpgen: ignore[VJP101]\n"))
    folder.write("pyproject.toml", '[tool.vjpgen]\nignore = ["VJP1"]\nselect = ["VJP3"]\n')
    result = run("build")
    assert result.exit_code == 1
    assert "VJP101" in result.stdout
    assert "VJP009" not in result.stdout


def test_drift_cannot_be_deselected(folder: Folder, run: Run):
    folder.write("model.py")
    folder.write("pyproject.toml", '[tool.vjpgen]\nignore = ["VJP9"]\n')
    assert run("build", "--check").exit_code == 1


def test_paths_are_shown_relative_to_the_current_folder(folder: Folder, run: Run):
    file = folder.write("pkg/model.py", BAD)
    for path in (file, file.parent, folder.path):
        (item,) = json.loads(run("check", str(path), "--output-format", "json").stdout)
        assert item["filename"] == "pkg/model.py"
    folder.write("pkg/model.py")
    assert "Wrote pkg/model_vjp.py" in run("build", str(folder.path)).stderr
    result = run("build", "-", "--stdin-filename", str(file), stdin=BAD)
    assert "--> pkg/model.py:6:19" in result.stderr


def test_names_that_could_steer_a_terminal(folder: Folder, run: Run):
    folder.write("a\x1b[2J.py")
    result = run("build")
    assert result.exit_code == 0
    assert "Wrote a�[2J_vjp.py" in result.stderr
    assert "\x1b" not in run("check", "no\x1b[2J.py").stderr


UNUSED = """\
def square_fwd(x):
    y = x * x
    return y, (x, y)


def square_bwd(residuals, y_t):
    x, y = residuals
    return (2 * x * y_t,)


# custom-vjp: fwd=square_fwd
# custom-vjp: bwd=square_bwd
def square(x):
    return x * x
"""


@pytest.mark.parametrize("row", [7, 11, 12])
def test_a_suppression_stands_by_the_finding_or_by_its_annotation(
    folder: Folder, run: Run, row: int
):
    rows = UNUSED.splitlines()
    for code, left in (("VJP302", []), ("VJP303", ["VJP302", "VJP009"])):
        text = [*rows[: row - 1], f"{rows[row - 1]}  # vjpgen: ignore[{code}]", *rows[row:]]
        folder.write("model.py", "\n".join(text) + "\n")
        for _ in range(2):  # the second time from the cache
            found = json.loads(run("build", "--output-format", "json").stdout)
            assert sorted(item["code"] for item in found) == sorted(left)
