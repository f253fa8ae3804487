"""What importing a generated module costs beyond its own imports."""

from __future__ import annotations

import dataclasses
import os
import py_compile
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
start = time.perf_counter()
from vjpgen.runtime import interface_1
middle = time.perf_counter()
__import__(sys.argv[1])
print(middle - start, time.perf_counter() - middle)
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
        for name, module in (("plain", text), ("generated", generated_source())):
            file = Path(folder, f"{name}.py")
            file.write_bytes(module)
            py_compile.compile(str(file))  # an installed module has its bytecode
        spent = {
            name: [_seconds(folder, name) for _ in range(repeat)] for name in ("plain", "generated")
        }
    runtime = statistics.median(first for rounds in spent.values() for first, _ in rounds)
    source, generated = (statistics.median(then for _, then in rounds) for rounds in spent.values())
    return Imports(text.count(b"# custom-vjp:"), source, generated, runtime)


def _seconds(folder: str, module: str) -> tuple[float, float]:
    """What the runtime and the module take to import."""
    process = subprocess.run(
        [sys.executable, "-c", _IMPORT, module],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([folder, *sys.path])},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    runtime, imported = map(float, process.stdout.split())
    return runtime, imported
