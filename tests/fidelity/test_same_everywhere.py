"""The same source gives the same bytes: in every folder, whatever the settings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).resolve().parents[1] / "cases"


def built(
    folder: Path, *options: str, cwd: Path | None = None, **settings: str
) -> dict[str, bytes]:
    """Build the cases in a new folder, and return what was written."""
    package = folder / "cases"
    package.mkdir(parents=True)
    (folder / "pyproject.toml").touch()
    (package / "__init__.py").touch()
    for path in CASES.glob("*.py"):
        if not path.stem.endswith("_vjp"):
            (package / path.name).write_bytes(path.read_bytes())
    command = [sys.executable, "-m", "vjpgen", "build", "--no-cache", *options]
    environment = {**os.environ, **settings}
    where = os.path.relpath(folder, cwd) if cwd else "."
    subprocess.run(
        [*command, where], cwd=cwd or folder, env=environment, check=True, capture_output=True
    )
    return {path.name: path.read_bytes() for path in package.glob("*_vjp.py")}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    found = built(tmp_path_factory.mktemp("plain"))
    assert len(found) > 5
    return found


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ((), {"PYTHONHASHSEED": "1"}),
        ((), {"PYTHONHASHSEED": "4711", "PYTHONOPTIMIZE": "2"}),
        ((), {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}),
        ((), {"TZ": "Asia/Tokyo", "HOME": "/nowhere", "COLUMNS": "20", "FORCE_COLOR": "1"}),
        (("--jobs", "1"), {}),
        (("--jobs", "2"), {}),
        (("--jobs", "3"), {"PYTHONHASHSEED": "9"}),
    ],
)
def test_settings_do_not_matter(
    expected: dict[str, bytes], tmp_path: Path, options: tuple[str, ...], settings: dict[str, str]
) -> None:
    assert built(tmp_path / "project", *options, **settings) == expected


def test_the_folder_does_not_matter(expected: dict[str, bytes], tmp_path: Path) -> None:
    folder = tmp_path / "Ein Ordner" / "é.py"
    assert built(folder) == expected
    assert built(tmp_path / "x" / "y", cwd=tmp_path / "Ein Ordner") == expected


@pytest.mark.skipif(os.name == "nt", reason="there is no such mask")
@pytest.mark.parametrize("mask", [0o000, 0o027, 0o077])
def test_the_mask_decides_only_who_may_read(
    expected: dict[str, bytes], tmp_path: Path, mask: int
) -> None:
    old = os.umask(mask)
    try:
        assert built(tmp_path / "project") == expected
    finally:
        os.umask(old)
    modes = {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*_vjp.py")}
    assert modes == {0o666 & ~mask}
