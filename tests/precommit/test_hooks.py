"""The hooks, run by the real pre-commit in a user's repository; it installs vjpgen by itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHIPPED = (".pre-commit-hooks.yaml", "LICENSE", "README.md", "pyproject.toml")
TAG = "v1"
SOURCE = """\
def scale_bwd(vjp_fn, y_t):
    (x_t,) = vjp_fn(y_t)
    return (2 * x_t,)


# custom-vjp: bwd=scale_bwd
def scale(x):
    return 3 * x
"""
BROKEN = SOURCE.replace("bwd=scale_bwd", "bwd=scale_bwdd")
BOTH = ("vjpgen-build", "vjpgen-check")

# Where pip finds packages is the machine's business; where it puts them is pre-commit's.
_MISLEADING = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "SKIP"}
_MISLEADING |= {
    f"PIP_{name}" for name in ("USER", "TARGET", "PREFIX", "ROOT", "NO_DEPS", "DRY_RUN")
}
_MISLEADING |= {f"PIP_{name}" for name in ("REQUIRE_VIRTUALENV", "REQUIREMENT", "REPORT", "QUIET")}


def _environment(home: Path) -> dict[str, str]:
    """Return an environment in which git and pre-commit know nothing of the user's."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in _MISLEADING and not name.startswith(("GIT_", "PRE_COMMIT", "COV_", "VJPGEN"))
    }
    people = {
        f"GIT_{role}_{key}": value
        for role in ("AUTHOR", "COMMITTER")
        for key, value in (("NAME", "Someone"), ("EMAIL", "someone@example.org"))
    }
    git = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    own = {"PRE_COMMIT_HOME": str(home), "VJPGEN_CACHE_DIR": str(home / "vjpgen-cache")}
    return {**kept, **people, **git, **own, "PRE_COMMIT_COLOR": "never"}


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@dataclass(frozen=True)
class Shared:
    """What all tests of a session use: the repository of the hooks, and the environment."""

    hooks: Path
    environment: dict[str, str]


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """Make a repository of the project as it stands; workers share it, and what is installed."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    environment = _environment(base / "pre-commit-home")
    made = tmp_path_factory.mktemp("making") / "vjpgen"
    _make_repository(made, environment)
    hooks = base / "vjpgen-hooks"
    try:
        made.rename(hooks)
    except OSError:  # another worker was faster
        assert (hooks / ".git").is_dir()
    return Shared(hooks, environment)


def _make_repository(folder: Path, environment: dict[str, str]) -> None:
    folder.mkdir()
    for name in SHIPPED:
        shutil.copy(ROOT / name, folder)
    for name in ("vjpgen", "templates"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for arguments in ("init -q", "add -A", "commit -q -m hooks", f"tag {TAG}"):
        _run(["git", *arguments.split()], folder, environment)


@dataclass(frozen=True)
class Done:
    """How a command ended, and all that it said."""

    status: int
    said: str


@dataclass(frozen=True)
class Repository:
    """A user's repository with the hooks installed."""

    path: Path
    shared: Shared

    def write(self, name: str, text: str = SOURCE) -> None:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def read(self, name: str) -> str:
        return (self.path / name).read_text()

    def has(self, name: str) -> bool:
        return (self.path / name).exists()

    def git(self, *arguments: str) -> str:
        return _run(["git", *arguments], self.path, self.shared.environment)

    def tracked(self) -> set[str]:
        return set(self.git("ls-files").split())

    def commit(self) -> Done:
        """Commit what is staged, through the hooks."""
        return self._call("git", "commit", "-q", "-m", "change")

    def pre_commit(self, *arguments: str) -> Done:
        return self._call(sys.executable, "-m", "pre_commit", *arguments)

    def _call(self, *command: str) -> Done:
        done = subprocess.run(
            command,
            cwd=self.path,
            env=self.shared.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
        )
        return Done(done.returncode, done.stdout)


def _repository(folder: Path, shared: Shared, hooks: tuple[str, ...]) -> Repository:
    repository = Repository(folder, shared)
    listed = "".join(f"  - id: {name}\n" for name in hooks)
    config = f"repos:\n- repo: {shared.hooks}\n  rev: {TAG}\n  hooks:\n{listed}"
    repository.write(".pre-commit-config.yaml", config)
    repository.write("pyproject.toml", '[tool.vjpgen]\nexclude = ["vendored"]\n')
    repository.git("init", "-q")
    repository.git("add", "-A")
    repository.git("commit", "-q", "-m", "first")
    done = repository.pre_commit("install")
    assert done.status == 0, done.said
    return repository


@pytest.fixture
def repository(tmp_path: Path, shared: Shared) -> Repository:
    """A repository with both hooks."""
    return _repository(tmp_path, shared, BOTH)


def _commit_fresh(repository: Repository, *names: str) -> None:
    """Commit annotated sources with their modules."""
    for name in names:
        repository.write(name)
    repository.git("add", "-A")
    repository.commit()
    repository.git("add", "-A")
    done = repository.commit()
    assert done.status == 0, done.said


def test_a_missing_module_fails_the_commit_and_is_written(repository: Repository):
    repository.write("pkg/model.py")
    repository.git("add", "-A")
    done = repository.commit()
    assert done.status != 0
    assert "Wrote pkg/model_vjp.py" in done.said
    assert "vjpgen check" in done.said
    repository.git("add", "-A")
    done = repository.commit()
    assert done.status == 0, done.said
    assert {"pkg/model.py", "pkg/model_vjp.py"} <= repository.tracked()
    assert not any("cache" in name for name in repository.tracked())


def test_a_stale_module_fails_the_commit_and_is_written_anew(repository: Repository):
    _commit_fresh(repository, "model.py")
    repository.write("model.py", SOURCE.replace("3 * x", "4 * x"))
    repository.git("add", "-A")
    done = repository.commit()
    assert done.status != 0
    assert "files were modified by this hook" in done.said
    assert "4 * x" in repository.read("model_vjp.py")
    repository.git("add", "-A")
    done = repository.commit()
    assert done.status == 0, done.said


def test_a_module_edited_by_hand_fails_the_commit_and_is_restored(repository: Repository):
    _commit_fresh(repository, "model.py")
    fresh = repository.read("model_vjp.py")
    repository.write("model_vjp.py", fresh + "\n# a word by hand\n")
    repository.write("notes.txt", "a change of its own\n")
    repository.git("add", "-A")
    done = repository.commit()
    assert done.status != 0
    assert "Restored model_vjp.py, which was edited by hand" in done.said
    assert repository.read("model_vjp.py") == fresh
    repository.git("add", "-A")
    done = repository.commit()
    assert done.status == 0, done.said
    assert repository.git("show", "HEAD:model_vjp.py") == fresh


def test_a_module_whose_source_was_deleted_is_removed(repository: Repository):
    _commit_fresh(repository, "model.py", "other.py")
    repository.git("rm", "-q", "model.py")
    done = repository.commit()
    assert done.status != 0
    assert "Removed model_vjp.py" in done.said
    repository.git("add", "-A")
    done = repository.commit()
    assert done.status == 0, done.said
    assert {"other.py", "other_vjp.py"} <= repository.tracked()
    assert not {"model.py", "model_vjp.py"} & repository.tracked()


def test_what_is_not_staged_does_not_matter(repository: Repository):
    _commit_fresh(repository, "model.py")
    repository.write("notes.txt", "staged\n")
    repository.git("add", "-A")
    repository.write("model.py", BROKEN)
    done = repository.commit()
    assert done.status == 0, done.said
    assert repository.read("model.py") == BROKEN


@pytest.mark.parametrize("hooks", [BOTH, ("vjpgen-check",)])
def test_a_broken_annotation_fails_the_commit(
    tmp_path: Path, shared: Shared, hooks: tuple[str, ...]
):
    repository = _repository(tmp_path, shared, hooks)
    repository.write("model.py", BROKEN)
    repository.write("broken elsewhere.py", "def f(:\n")
    repository.git("add", "-A")
    done = repository.commit()
    assert done.status != 0
    assert done.said.count("error[VJP101]") == len(hooks)
    assert "--> model.py:6:19" in done.said
    assert not repository.has("model_vjp.py")


def test_check_alone_lets_drift_pass_and_writes_nothing(tmp_path: Path, shared: Shared):
    repository = _repository(tmp_path, shared, ("vjpgen-check",))
    repository.write("model.py")
    repository.git("add", "-A")
    done = repository.commit()
    assert done.status == 0, done.said
    assert not repository.has("model_vjp.py")


def test_what_is_excluded_is_passed_over(repository: Repository):
    repository.write("vendored/model.py", BROKEN)
    repository.git("add", "-A")
    done = repository.commit()
    assert done.status == 0, done.said
    assert not repository.has("vendored/model_vjp.py")


def test_all_files(repository: Repository):
    repository.write("a.py")
    repository.write("pkg/b.py")
    repository.git("add", "-A")
    repository.git("commit", "-q", "--no-verify", "-m", "unchecked")
    done = repository.pre_commit("run", "--all-files")
    assert done.status != 0
    assert "Wrote a_vjp.py" in done.said
    assert "Wrote pkg/b_vjp.py" in done.said
    repository.git("add", "-A")
    done = repository.pre_commit("run", "--all-files")
    assert done.status == 0, done.said
