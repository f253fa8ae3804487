"""What the machine does to a build: no output is ever half written, lost or left lying about."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from vjpgen.building import files
from vjpgen.cli import group

RULE = """\
def scale_bwd(vjp_fn, y_t):
    (x_t,) = vjp_fn(y_t)
    return (2 * x_t,)


# custom-vjp: bwd=scale_bwd
def scale(x):
    return 3 * x
"""
COMMAND = [sys.executable, "-m", "vjpgen"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with two annotated modules, which is the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").touch()
    for name in ("a", "b"):
        (tmp_path / f"{name}.py").write_text(RULE)
    files._sweep.cache_clear()
    return tmp_path


def build(*args: str) -> Result:
    return CliRunner().invoke(group, ["build", *args], catch_exceptions=False)


def left_over(folder: Path) -> list[str]:
    """Temporary files, wherever they are."""
    return [path.name for path in folder.rglob("*") if path.name.endswith(".tmp")]


@pytest.mark.parametrize("call", ["write", "replace", "chmod", "open"])
@pytest.mark.parametrize(
    "error", [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS, errno.EDQUOT]
)
def test_a_failing_write_leaves_the_old_output(
    folder: Path, monkeypatch: pytest.MonkeyPatch, call: str, error: int
) -> None:
    assert build().exit_code == 0
    old = (folder / "a_vjp.py").read_bytes()
    for name in ("a", "b"):
        (folder / f"{name}.py").write_text(RULE.replace("3", "4"))
    _break(monkeypatch, call, error)
    result = build()
    assert result.exit_code == 2
    assert "VJP902" in result.output
    assert (folder / "a_vjp.py").read_bytes() == old
    assert b"4 * x" in (folder / "b_vjp.py").read_bytes()
    assert left_over(folder) == []
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    assert build().exit_code == 0
    assert b"4 * x" in (folder / "a_vjp.py").read_bytes()


def _break(monkeypatch: pytest.MonkeyPatch, call: str, error: int) -> None:
    """Let one step of writing `a_vjp.py` fail."""

    def failing(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            if any("a_vjp.py" in os.fspath(a) for a in args if isinstance(a, str | os.PathLike)):
                raise OSError(error, os.strerror(error))
            return function(*args, **options)

        return wrapped

    if call == "write":
        create = files._create

        def half(path: str, data: bytes) -> None:
            is_broken = "a_vjp.py" in path
            create(path, data[: len(data) // 2] if is_broken else data)
            failing(bool)(path)

        monkeypatch.setattr(files, "_create", half)
        return
    if call == "open":
        real = os.open

        def opened(path: str, flags: int, *args: Any, **options: Any) -> int:
            writes = flags & (os.O_WRONLY | os.O_RDWR)
            return (failing(real) if writes else real)(path, flags, *args, **options)

        monkeypatch.setattr(os, "open", opened)
        return
    monkeypatch.setattr(os, call, failing(getattr(os, call)))


@pytest.mark.skipif(os.name == "nt", reason="there is no limit to the size of a file")
def test_a_full_disk_leaves_the_old_output(folder: Path) -> None:
    assert build("--no-cache").exit_code == 0
    old = (folder / "a_vjp.py").read_bytes()
    (folder / "a.py").write_text(RULE + "# " + "long " * 2_000 + "\n")
    code = (
        "import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, 8_000))\n"
        "import sys\n"
        "sys.argv = ['vjpgen', 'build', '--no-cache']\n"
        "from vjpgen.__main__ import main\n"
        "main()\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2, done.stderr
    assert "VJP902" in done.stdout
    assert "Traceback" not in done.stderr
    assert (folder / "a_vjp.py").read_bytes() == old
    assert left_over(folder) == []


@pytest.mark.skipif(os.name == "nt", reason="a process cannot be killed so")
def test_a_killed_build_leaves_each_output_old_or_new(folder: Path) -> None:
    for number in range(12):
        (folder / f"m{number}.py").write_text(RULE + "# " + "long " * 20_000 + "\n")
    assert build().exit_code == 0
    whole = {path: path.read_bytes() for path in folder.glob("*_vjp.py")}
    chance = random.Random(0)
    for attempt in range(8):
        for path in folder.glob("m*_vjp.py"):
            path.unlink()
        process = subprocess.Popen([*COMMAND, "build", "-q", "--no-cache"])
        if attempt % 2:
            time.sleep(chance.uniform(0.05, 0.6))
        else:  # when the first output appears there is much left to do
            while process.poll() is None and not list(folder.glob("m*_vjp.py")):
                time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
        assert all(whole[path] == path.read_bytes() for path in folder.glob("*_vjp.py"))
    (folder / ".m0_vjp.py.999999999-0123456789ab.tmp").write_bytes(b"")
    (folder / "m0_vjp.py").unlink(missing_ok=True)
    files._sweep.cache_clear()
    assert build().exit_code == 0
    assert {path: path.read_bytes() for path in folder.glob("*_vjp.py")} == whole
    assert left_over(folder) == []


def test_only_what_dead_builds_have_left_is_cleaned_up(folder: Path) -> None:
    kept = {f".a_vjp.py.{os.getpid()}-0123456789ab.tmp", ".a.1.tmp", "x.tmp", ".x.tmp"}
    for name in kept:
        (folder / name).touch()
    (folder / ".a_vjp.py.999999999-0123456789ab.tmp").touch()
    assert build().exit_code == 0
    assert set(left_over(folder)) == kept


@pytest.mark.skipif(os.name == "nt", reason="signals differ")
def test_an_interrupt_ends_quietly(folder: Path) -> None:
    for number in range(30):
        (folder / f"m{number}.py").write_text(RULE + "x = 1\n" * 3_000)
    process = subprocess.Popen(
        [*COMMAND, "build", "--no-cache"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while process.poll() is None and not list(folder.glob("*_vjp.py")):
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode in (0, 1, 130), err
    assert "Traceback" not in out + err
    assert left_over(folder) == []


FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="there is no device that is always full")
@pytest.mark.parametrize(
    "args",
    [
        ["--version"],
        ["list"],
        ["list", "--output-format", "json"],
        ["build", "--diff"],
        ["explain", "VJP1"],
    ],
)
def test_output_that_cannot_be_written_is_one_line_of_error(folder: Path, args: list[str]) -> None:
    with FULL.open("w") as full:
        done = subprocess.run(
            [*COMMAND, *args],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 2
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not FULL.exists(), reason="there is no device that is always full")
def test_a_build_does_what_nobody_can_hear_of(folder: Path) -> None:
    with FULL.open("w") as full:
        command = [*COMMAND, "build"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=full, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, b"")
    assert (folder / "a_vjp.py").exists()


@pytest.mark.skipif(os.name == "nt", reason="a shell is used")
@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("list | head -c 1", 0),
        ("explain --all | head -c 1", 0),
        ("list >&-", 0),
        ("--version >&- 2>&-", 0),
        ("build >&- 2>&-", 0),
        ("build --check >&- 2>&-", 1),
        ("build - --stdin-filename a.py <&-", 2),
    ],
)
def test_closed_streams_are_no_failure_of_ours(folder: Path, line: str, status: int) -> None:
    for number in range(60):
        (folder / f"module_with_a_long_name_{number}.py").write_text(RULE)
    shell = f'exec 3>&2; "$0" -m vjpgen {line}'
    done = subprocess.run(
        ["bash", "-c", shell, sys.executable],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize(
    ("name", "make", "status"),
    [
        ("no text", lambda path: path.write_bytes(b"\xff\xfe\x00"), 2),
        ("null", lambda path: path.write_bytes(b"[tool.vjpgen]\0"), 2),
        ("huge", lambda path: path.write_bytes(b"# a\n" * 1_000_000), 0),
        ("folder", lambda path: path.mkdir(), 0),
        ("loop", lambda path: path.symlink_to(path), 0),
        ("deep", lambda path: path.write_text("x = " + "[" * 5_000 + "]" * 5_000), 2),
        ("big number", lambda path: path.write_text("x = " + "1" * 10_000), 2),
    ],
)
def test_an_odd_pyproject_is_said_or_passed_over(
    folder: Path, name: str, make: Callable[[Path], object], status: int
) -> None:
    (folder / "pyproject.toml").unlink()
    make(folder / "pyproject.toml")
    result = build()
    assert result.exit_code == status, result.output
    assert (folder / "a_vjp.py").exists() == (status == 0)


def test_what_is_no_file_is_passed_over_or_reported(folder: Path) -> None:
    (folder / "x.py").mkdir()
    (folder / "x.py" / "inner.py").write_text(RULE)
    (folder / "loop.py").symlink_to(folder / "loop.py")
    (folder / "up").symlink_to(folder)
    (folder / "dangling.py").symlink_to(folder / "nothing.py")
    (folder / "a_vjp.py").mkdir()
    os.mkfifo(folder / "pipe.py")
    result = build()
    assert result.exit_code == 1
    assert "VJP901" in result.output
    assert (folder / "x.py" / "inner_vjp.py").exists()
    assert (folder / "b_vjp.py").exists()


def test_a_file_that_vanishes_or_changes_while_it_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vjpgen.building import gather

    real = gather.read

    def read(path: str) -> bytes:
        if path.endswith("/a.py"):
            os.unlink(path)
        if path.endswith("/b.py"):
            data = real(path)
            Path(path).write_bytes(b"x = 1\n")
            return data
        return real(path)

    monkeypatch.setattr(gather, "read", read)
    result = build("--no-cache")
    assert result.exit_code in (0, 1)
    assert not (folder / "a_vjp.py").exists()
