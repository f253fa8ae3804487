"""A training step over two processes: `two_processes RANK PORT RESULTS.json`.

Each process has two devices and half of the batch; the kernels are split over the devices of each
process. What the step gives is compared with one device's in both processes.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from tests.runtime.compare import assert_same
from tests.runtime.generate import load_pair

PROCESSES = 2
DEVICES_EACH = 2
STEPS = 2


def training_step(module: Any) -> Any:
    """Return a step: the parameters after it, and the gradients."""

    def loss(params: Any, x: Any, y: Any) -> Any:
        return ((module.apply({"params": params}, x) - y) ** 2).mean()

    def step(params: Any, x: Any, y: Any) -> Any:
        tangents, x_t = jax.grad(loss, (0, 1))(params, x, y)
        return jax.tree.map(lambda p, t: p - 0.1 * t, params, tangents), (tangents, x_t)

    return step


def train(step: Any, params: Any, x: Any, y: Any) -> Any:
    """Train for some steps: the last parameters and gradients."""
    gradients = None
    for _ in range(STEPS):
        params, gradients = step(params, x, y)
    return params, gradients


def whole(tree: Any) -> Any:
    """Bring arrays, parts of which lie in another process, to the host."""
    return jax.tree.map(lambda x: multihost_utils.process_allgather(x, tiled=True), tree)


def main(rank: int, port: int, path: str) -> None:
    """Join the other process, train, compare, and write what was seen."""
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(
        f"127.0.0.1:{port}",
        num_processes=PROCESSES,
        process_id=rank,
        initialization_timeout=60,
    )
    assert jax.process_count() == PROCESSES
    assert jax.device_count() == PROCESSES * DEVICES_EACH
    with tempfile.TemporaryDirectory() as folder:
        pair = load_pair("devices", Path(folder))
    x = np.asarray(jax.random.normal(jax.random.key(1), (8, 8)))
    y = np.asarray(jax.random.normal(jax.random.key(2), (8, 8)))
    boxed = jax.eval_shape(pair.plain.Mlp().init, jax.random.key(0), x)
    params = nn.unbox(pair.plain.Mlp().init(jax.random.key(0), x))["params"]
    expected = train(jax.jit(training_step(pair.plain.Mlp())), params, x, y)

    kinds = (AxisType.Auto,) * 2
    mesh = jax.make_mesh((PROCESSES, DEVICES_EACH), ("data", "model"), axis_types=kinds)
    assert [d.process_index for d in mesh.devices[rank]] == [rank] * DEVICES_EACH
    shardings = nn.unbox(nn.get_sharding(boxed, mesh))["params"]
    batch = NamedSharding(mesh, P("data"))
    half = slice(rank * 4, rank * 4 + 4)  # this process's own part of the batch
    global_x, global_y = (
        jax.make_array_from_process_local_data(batch, part[half], part.shape) for part in (x, y)
    )
    global_params = jax.tree.map(
        lambda leaf, sharding: jax.make_array_from_callback(
            leaf.shape, sharding, lambda index: np.asarray(leaf)[index]
        ),
        params,
        shardings,
    )
    out = (shardings, (shardings, batch))
    step = jax.jit(training_step(pair.lifted.Mlp()), donate_argnums=0, out_shardings=out)
    found = train(step, global_params, global_x, global_y)
    kernel = found[1][0]["up"]["kernel"]
    assert not kernel.is_fully_replicated
    assert not found[1][1].is_fully_addressable
    assert_same(whole(found), jax.tree.map(np.asarray, expected), rtol=1e-5)
    norm = float(jnp.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(expected[1]))))
    result = {
        "norm": norm,
        "processes": jax.process_count(),
        "devices": jax.device_count(),
        "kernel": list(kernel.sharding.spec),
    }
    Path(path).write_text(json.dumps(result))
    jax.distributed.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
