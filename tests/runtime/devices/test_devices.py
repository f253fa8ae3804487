"""Rules on many devices: eight of the host, in one process and as two processes."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runtime.devices.program import CHECKS, COUNT
from tests.runtime.devices.two_processes import DEVICES_EACH, PROCESSES

ROOT = Path(__file__).parents[3]
LIMIT = 600  # seconds, for a machine that is busy with much else


def _environment(devices: int) -> dict[str, str]:
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join(paths),
    }


@pytest.fixture(scope="session")
def results(tmp_path_factory):
    """What the program of checks found: run once, also where several workers test."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    path = folder / "devices.json"
    with open(folder / "devices.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            subprocess.run(
                [sys.executable, "-m", "tests.runtime.devices.program", str(path)],
                env=_environment(COUNT),
                cwd=ROOT,
                timeout=LIMIT,
                check=True,
            )
    return json.loads(path.read_text())


@pytest.mark.parametrize("name", CHECKS)
def test_on_eight_devices(results, name):
    assert results[name] is None, results[name]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _run_together(folder: Path) -> list[tuple[int | None, str]]:
    """Run the processes to their end, or to the limit: exit status and output of each."""
    port = _free_port()
    command = [sys.executable, "-m", "tests.runtime.devices.two_processes"]
    processes = []
    try:
        for rank in range(PROCESSES):
            log = open(folder / f"{rank}.log", "w")  # noqa: SIM115  closed with the process below
            arguments = [str(rank), str(port), str(folder / f"{rank}.json")]
            process = subprocess.Popen(
                [*command, *arguments],
                env=_environment(DEVICES_EACH),
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            processes.append((process, log))
        for process, _ in processes:
            process.wait(timeout=LIMIT / 2)
    except subprocess.TimeoutExpired:
        pass  # told by the status below
    finally:
        for process, log in processes:
            process.kill()
            process.wait()
            log.close()
    logs = [(folder / f"{rank}.log").read_text() for rank in range(PROCESSES)]
    return [(process.returncode, text) for (process, _), text in zip(processes, logs, strict=True)]


def test_as_two_processes(tmp_path):
    for attempt in range(3):  # somebody else may take the port before the processes do
        folder = tmp_path / str(attempt)
        folder.mkdir()
        ended = _run_together(folder)
        if not any("address already in use" in text.lower() for _, text in ended):
            break
    assert [status for status, _ in ended] == [0] * PROCESSES, "\n".join(t for _, t in ended)
    found = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(PROCESSES)]
    assert found[0] == found[1]
    assert found[0]["devices"] == PROCESSES * DEVICES_EACH
    assert found[0]["kernel"] == [None, "model"]
    assert found[0]["norm"] > 0.01
