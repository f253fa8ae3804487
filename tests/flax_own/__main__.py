"""Run Flax's own tests with vjpgen in the place of Flax's `custom_vjp` and around every module.

The tests come from the source distribution of the installed Flax; nothing of them is kept.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

from tests.flax_own.plugin import MODE, REPORT

ROOT = Path(__file__).parents[2]
# Two processes, one list of files each; they take about equally long.
FILES = (
    (
        "linen/linen_transforms_test.py",
        "core/core_lift_test.py",
        "core/design/core_custom_vjp_test.py",
    ),
    (
        "linen/linen_module_test.py",
        "linen/linen_recurrent_test.py",
        "linen/linen_combinators_test.py",
    ),
)
# At least so many tests must pass, and each of these be called: else nothing was tested.
FLOOR = 250
CALLED = ("custom_vjp", "lifted", "backward")
# Tests that pass without vjpgen and cannot with a rule on every module.
EXCEPTIONS = {
    "test_jvp": "a function with a rule of its own has no forward mode, in JAX as here",
    "test_intercept_methods_setup": "as under Flax's own transforms, `setup` runs inside of the "
    "lifted call, so it is intercepted after that",
}


def main() -> int:
    """Fetch, run, compare; the exit status says whether all is well."""
    with tempfile.TemporaryDirectory() as folder:
        tests = _fetch(Path(folder))
        reports = _run(tests, [list(files) for files in FILES], "on")
        outcomes = {name: what for report in reports for name, what in report["outcomes"].items()}
        failed = [name for name, what in outcomes.items() if what == "failed"]
        broken = [name for name in failed if _test_name(name) not in EXCEPTIONS]
        if broken:  # those that fail in plain Flax, too, are none of vjpgen's
            (plain,) = _run(tests, [broken], "off")
            broken = [name for name in broken if plain["outcomes"].get(name) == "passed"]
    passed = sum(what == "passed" for what in outcomes.values())
    count = {key: sum(report["count"].get(key, 0) for report in reports) for key in CALLED}
    print(f"Flax's own tests: {passed} of {len(outcomes)} passed; calls: {count}")
    faults = [f"fails with vjpgen alone: {name}" for name in broken]
    if passed < FLOOR:
        faults.append(f"only {passed} tests passed; there were {FLOOR} and more")
    faults += [f"never called: {key}" for key, number in count.items() if not number]
    met = {_test_name(name) for name in failed}
    faults += [f"an exception that passes: {name}" for name in EXCEPTIONS if name not in met]
    print(*faults, sep="\n", file=sys.stderr)
    return 1 if faults else 0


def _fetch(folder: Path) -> Path:
    """Put the tests of the installed Flax into a folder; return the folder that holds them."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--no-binary", "flax", "--dest", str(folder), f"flax=={version('flax')}"]
    subprocess.run(command, check=True)
    (archive,) = folder.glob("flax-*.tar.gz")
    target = folder / "flax_tests"
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            parts = PurePosixPath(member.name).parts
            if member.isfile() and parts[1:2] == ("tests",) and parts[-1].endswith("_test.py"):
                member.name = str(PurePosixPath(*parts[2:]))
                tar.extract(member, target, filter="data")
    (target / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    return target


def _run(tests: Path, selections: Sequence[Sequence[str]], mode: str) -> list[dict[str, Any]]:
    """Run selections of tests, each in a process of its own; return their reports."""
    paths = [tests.parent / f"report_{mode}_{n}.json" for n in range(len(selections))]
    children = [
        subprocess.Popen(_command(selection), cwd=tests, env=_environment(path, mode))
        for selection, path in zip(selections, paths, strict=True)
    ]
    for child in children:
        child.wait()
    missing = [selection for selection, p in zip(selections, paths, strict=True) if not p.exists()]
    if missing:
        raise SystemExit(f"pytest did not end: {missing}")
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def _command(selection: Sequence[str]) -> list[str]:
    options = ["-q", "--tb=short", "-p", "no:cacheprovider", "-p", "tests.flax_own.plugin"]
    warning = "error::vjpgen.DroppedTangentWarning"
    return [sys.executable, "-m", "pytest", *options, "-W", warning, *selection]


def _environment(report: Path, mode: str) -> Mapping[str, str]:
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, REPORT: str(report), MODE: mode}


def _test_name(node: str) -> str:
    return node.rpartition("::")[2]


if __name__ == "__main__":
    sys.exit(main())
