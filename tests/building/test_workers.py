"""Several processes give what one gives, and one that dies costs one file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.building.conftest import GOOD, Tree
from vjpgen.building import workers
from vjpgen.building.compiling import Task
from vjpgen.cli import group
from vjpgen.compiler import Options, Siblings

BAD = GOOD.replace("bwd=scale_bwd", "bwd=scale_bwdd")


class _Deadly:
    """Ends the process that receives it."""

    def __reduce__(self) -> object:
        return os._exit, (7,)


def _task(number: int, text: str = GOOD, sources: object = None) -> Task:
    data = f"X = {number}\n\n\n{text}".encode()
    siblings = Siblings(sources=sources or {})  # pyright: ignore[reportArgumentType]
    return Task(data, f"m{number}.py", Options(f"m{number}.py"), siblings)


def test_how_many_help():
    assert workers.helpful(2_999, 8) == 1
    assert workers.helpful(3_000, 8) == 2
    assert workers.helpful(10**9, 3) == 3
    assert workers.helpful(0, None) == 1
    assert workers.helpful(10**9, None) >= 1


@pytest.mark.parametrize("processes", [2, 5])
def test_the_results_are_those_of_one_process(processes: int):
    tasks = [_task(number, BAD if number % 3 == 0 else GOOD) for number in range(8)]
    alone = dict(workers.make_all(tasks, 1))
    assert dict(workers.make_all(tasks, processes)) == alone


def test_a_process_that_dies_is_a_finding_about_its_file():
    tasks = [_task(number, sources=_Deadly() if number in (1, 4) else None) for number in range(6)]
    made = dict(workers.make_all(tasks, 2))
    assert set(made) == set(range(6))
    for number, each in made.items():
        if number in (1, 4):
            (found,) = each.result.diagnostics
            assert (found.code, found.filename) == ("VJP903", f"m{number}.py")
            assert "status 7" in found.message
            assert not each.is_lasting
        else:
            assert each.result.output is not None


def test_a_run_that_is_given_up_leaves_no_process():
    tasks = [_task(number) for number in range(6)]
    running = workers.make_all(tasks, 2)
    next(running)
    running.close()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def _build(root: Path, *args: str) -> tuple[str, dict[str, bytes]]:
    for path in root.rglob("*_vjp.py"):
        path.unlink()
    result = CliRunner().invoke(group, ["build", "--no-cache", *args], catch_exceptions=False)
    outputs = {path.name: path.read_bytes() for path in sorted(root.rglob("*_vjp.py"))}
    return result.output, outputs


def test_the_number_of_processes_changes_nothing(tree: Tree, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(workers, "LINES_EACH", 10)
    files = {f"pkg/m{number}.py": BAD if number == 3 else GOOD * number for number in range(1, 7)}
    root = tree({"pyproject.toml": "", **files})
    one = _build(root, "--jobs", "1")
    assert len(one[1]) == 5
    assert _build(root, "--jobs", "2") == one
    assert _build(root, "--jobs", "4") == one
    assert _build(root) == one
