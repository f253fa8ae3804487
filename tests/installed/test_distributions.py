"""vjpgen from its wheel, which is built from its sdist: as users get it."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SOURCE = """\
import jax.numpy as jnp


def double_fwd(x):
    return jnp.sin(x), x


def double_bwd(x, y_t):
    return (2 * jnp.cos(x) * y_t,)


def example():
    return (jnp.ones(4),)


# custom-vjp: fwd=double_fwd, bwd=double_bwd, example=example
def sin(x):
    return jnp.sin(x)
"""


def run(*command: str, **options) -> str:
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Install the wheel into a folder of its own; give the environment that finds it alone."""
    made = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(made), str(ROOT))
    (wheel,) = made.glob("*.whl")
    (sdist,) = made.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"DIAGNOSTICS.md", "CHANGELOG.md", ".pre-commit-hooks.yaml"} <= names
    target = tmp_path_factory.mktemp("site")
    pip = (sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-compile")
    run(*pip, "--target", str(target), str(wheel))
    return {**os.environ, "PYTHONPATH": str(target)}


def test_the_wheel_builds_and_its_modules_run(installed, tmp_path):
    (tmp_path / "waves.py").write_text(SOURCE)

    def python(*command: str) -> str:
        return run(sys.executable, *command, env=installed, cwd=tmp_path)

    found = python("-c", "import vjpgen; print(vjpgen.__file__)").strip()
    assert Path(found).is_relative_to(installed["PYTHONPATH"])
    assert Path(found).with_name("py.typed").is_file()
    python("-m", "vjpgen", "build", ".")
    python("-m", "vjpgen", "build", "--check", ".")
    code = "import jax, waves, waves_vjp; print(jax.grad(waves_vjp.sin)(0.0))"
    assert python("-c", code).strip() == "2.0"
    assert "0.0% of autodiff's 16" in python("-m", "vjpgen", "inspect", "waves:sin")
    assert "VJP101" in python("-m", "vjpgen", "explain", "VJP101")
    assert "1 passed" in python("-W", "error", "-m", "pytest", "-q", "--vjpgen", "waves.py")
