"""What importing a generated module costs beyond its own imports."""

from __future__ import annotations

import dataclasses
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks import models
from tests.benchmarks.variants import generated_source

# Everything that either module imports is there before the clock starts: what is left is reading
# the bytecode and running the module's body.
_IMPORT = """
import sys, time
import flax.linen, jax.numpy
from vjpgen.runtime import interface_1
sys.path.insert(0, sys.argv[1])
start = time.perf_counter()
__import__(sys.argv[2])
print(time.perf_counter() - start)
"""
_RUNTIME = """
import time
import flax.linen, jax.numpy
start = time.perf_counter()
from vjpgen.runtime import interface_1
print(time.perf_counter() - start)
"""


@dataclasses.dataclass(frozen=True)
class Imports:
    """Seconds that imports take, each in a process of its own.

    Args:
        rules: the number of annotated functions of the module.
        source: importing the plain module when all that it imports is imported already.
        generated: importing the generated one likewise.
        runtime: importing vjpgen's runtime when jax and flax are imported already.
    """

    rules: int
    source: float
    generated: float
    runtime: float

    @property
    def beyond(self) -> float:
        """What the generated module adds to the source's own classes and functions."""
        return self.generated - self.source


def measure(repeat: int) -> Imports:
    """Import the benchmark's models and the module generated from them, in turn."""
    text = Path(models.__file__).read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "plain.py").write_bytes(text)
        Path(folder, "generated.py").write_bytes(generated_source())
        rounds = [
            (
                _seconds(_IMPORT, folder, "plain"),
                _seconds(_IMPORT, folder, "generated"),
                _seconds(_RUNTIME),
            )
            for _ in range(1 + repeat)  # the first writes the bytecode
        ]
    source, generated, runtime = map(statistics.median, zip(*rounds[1:], strict=True))
    return Imports(text.count(b"# custom-vjp:"), source, generated, runtime)


def _seconds(program: str, *arguments: str) -> float:
    environment = dict(os.environ)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed module has its bytecode
    process = subprocess.run(
        [sys.executable, "-c", program, *arguments], env=environment, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    return float(process.stdout)
