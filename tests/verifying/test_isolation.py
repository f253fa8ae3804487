"""Whatever user code does, its rule is reported and the others are verified."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.verifying.conftest import RULES, Make, rule, run, start

EXAMPLES = {
    "hangs": "time.sleep(600)",
    "exits": "print('before the end')\n    os._exit(7)",
    "leaves": "sys.exit(3)",
    "crashes": "os.kill(os.getpid(), 11)",
    "no_memory": "raise MemoryError('none left')",
    "raises": "return {}['missing']",
    "no_tuple": "return jnp.ones(3)",
    "not_differentiable": "return (1,)",
    "loud": "os.write(1, b'{\"report\": 1}\\n')\n    print('to stdout')\n    return example(key)",
}
KEY = {"loud": "key"}
FUNCTIONS = "".join(
    f"def {name}_example({KEY.get(name, '')}):\n    {body}\n\n\n" for name, body in EXAMPLES.items()
)
ANNOTATED = "".join(rule(name, example=f"{name}_example") for name in EXAMPLES)
GIVEN = rule("wrong", bwd="twice", example="example", exact="True") + rule("without")


@pytest.fixture(scope="module")
def found(make: Make) -> dict[str, Any]:
    """Verify rules that do what they should not; return the reports by the rules' names."""
    files = {
        "model.py": "import time\n" + RULES + FUNCTIONS + ANNOTATED + GIVEN,
        "unimportable.py": "import nowhere\n" + RULES + rule("first") + rule("second"),
        "deadly.py": RULES + "os._exit(9)\n\n\n" + rule("third") + rule("fourth"),
        "invalid.py": RULES + rule("fifth", bwd="nothing"),
    }
    folder = make(files)
    options = ("-m", "vjpgen", "verify", "--output-format", "json")
    _, hung, _ = run(*options, "-k", "hangs", "--time-limit", "5", cwd=folder)
    status, out, err = run(*options, "-k", "::[!h]*", cwd=folder)
    assert status == 1
    assert "VJP101" in err
    assert "to stdout" not in out + err
    return {each["name"]: each for each in json.loads(hung) + json.loads(out)}


@pytest.mark.parametrize(
    ("name", "status", "parts"),
    [
        ("hangs", "timeout", ["took longer than 5 s, in `hangs_example` at ", "model.py:"]),
        ("exits", "crashed", ["exit status 7", "it printed last:\n  before the end"]),
        ("leaves", "crashed", ["the example of `leaves` failed", "SystemExit: 3"]),
        ("crashes", "crashed", ["killed by SIGSEGV", "in `crashes_example` at ", "model.py:"]),
        ("no_memory", "crashed", ["MemoryError: none left"]),
        ("raises", "error", ["the example of `raises` failed\n", "KeyError: 'missing'"]),
        ("no_tuple", "error", ["expected the positional arguments as a tuple"]),
        ("not_differentiable", "error", ["nothing in the example can be differentiated"]),
        ("without", "unverified", ["the rule of `without` has no example"]),
        ("first", "error", ["importing unimportable.py failed", "No module named 'nowhere'"]),
        ("second", "error", ["importing unimportable.py failed", "No module named 'nowhere'"]),
        ("third", "crashed", ["importing deadly.py ended the process", "exit status 9"]),
        ("fourth", "crashed", ["importing deadly.py ended the process", "exit status 9"]),
        ("fifth", "error", ["invalid.py has errors: VJP101"]),
    ],
)
def test_what_is_said_of_rules_that_cannot_be_verified(
    found: dict[str, Any], name: str, status: str, parts: list[str]
):
    report = found[name]
    message = report["findings"][0]["message"]
    assert report["status"] == status
    assert all(part in message for part in parts), message
    assert not any(f"{os.sep}{each}{os.sep}" in message for each in ("vjpgen", "jax", "flax"))


def test_the_others_are_verified(found: dict[str, Any]):
    assert found["loud"]["status"] == "verified"
    (leaf,) = found["loud"]["leaves"]
    assert (leaf["slot"], leaf["shape"], leaf["relation"]) == ("x", [3], "exact")


def test_a_wrong_rule_fails(found: dict[str, Any]):
    report = found["wrong"]
    assert report["status"] == "failed"
    assert (report["filename"], report["seed"]) == ("model.py", 0)
    assert report["location"]["row"] > 1
    (finding,) = [each for each in report["findings"] if each["check"] == "gradient"]
    assert (finding["severity"], finding["slot"]) == ("error", "x")


HANGS = """\
import os
import subprocess
import sys
import time


def hang():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with open("pids.new", "w") as file:
        print(os.getpid(), child.pid, file=file)
    os.rename("pids.new", "pids")
    time.sleep(600)


"""


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGKILL])
def test_no_process_outlives_the_command(make: Make, signal_number: signal.Signals):
    folder = make({"model.py": RULES + HANGS + rule("f", example="hang") + rule("g")})
    process = start("-m", "vjpgen", "verify", "-k", "f", cwd=folder)
    while not (folder / "pids").exists():
        assert process.poll() is None
        time.sleep(0.05)
    worker, grandchild = map(int, (folder / "pids").read_text().split())
    process.send_signal(signal_number)
    out, err = process.communicate(timeout=60)
    if signal_number == signal.SIGINT:
        assert (process.returncode, out) == (130, "")
        assert "Interrupted: 1 rule is not verified" in err
        _await_end(grandchild)
    else:
        os.kill(grandchild, signal.SIGKILL)
    _await_end(worker)


def _await_end(pid: int) -> None:
    """Wait until a process has ended, or is a zombie that nobody has asked after."""
    stat = Path(f"/proc/{pid}/stat")
    while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.05)
