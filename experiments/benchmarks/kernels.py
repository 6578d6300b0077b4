"""Kernels that an update starts on a GPU, counted on a machine without one.

    python -m experiments.benchmarks.kernels [SUBSTRING] [--phase=target] [--save=FOLDER]

It compiles the row of `gpu.ROWS` of that name, or each with SUBSTRING in it, for an H200 that
is described to XLA. Each row is printed with its kernels per update, and those of one turn of each
loop over time. An update of a recurrent model is bound by this number: a kernel takes about 2 µs to
start. XLA's autotuning is off, since it needs the GPU: some products may take one more or less.

Needs Linux and XLA's compiler for CUDA, of jax's version, in the environment:

    pip install --no-deps jax-cuda12-pjrt==VERSION jax-cuda12-plugin==VERSION nvidia-cuda-nvcc-cu12
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from absl import app, flags
from jax.experimental import topologies

from experiments.benchmarks import gpu, update

_PHASE = flags.DEFINE_enum("phase", "target", list(update.PHASES), "Kind of update.")
_SAVE = flags.DEFINE_string("save", "", "Folder that gets each compiled program as text.")

_H200 = """
gpu_device_info {
  cuda_compute_capability { major: 9 }
  core_count: 132  fpus_per_core: 128  clock_rate_ghz: 1.98
  memory_bandwidth: 4800000000000  device_memory_size: 150000000000  l2_cache_size: 62914560
  threads_per_warp: 32  threads_per_block_limit: 1024  threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647  block_dim_limit_y: 65535  block_dim_limit_z: 65535
  shared_memory_per_block: 49152  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  registers_per_block_limit: 65536  registers_per_core_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
runtime_version { major: 12 minor: 9 }
device_description_str: "NVIDIA H200"
"""
_ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "-1",
    "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",  # of libraries that only a GPU needs
}

_COMPUTATION = re.compile(r"^(ENTRY )?%([\w.-]+) \(.*\{\s*$")
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%[\w.-]+ = .*?[\]})] ([\w-]+)\(")
_CALLED = re.compile(r"(?:to_apply|calls|true_computation|false_computation)=%([\w.-]+)")
_TURNS = re.compile(r'known_trip_count":\{"n":"(\d+)"')
_NO_KERNELS = frozenset(
    {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "opt-barrier", "after-all"}
    | {"partition-id", "replica-id", "async-done", "async-update", "copy-done"}
)


class Loop(NamedTuple):
    """One loop of a program."""

    turns: int
    kernels: int  # of one turn, loops inside it included


def count_kernels(hlo: str) -> tuple[int, list[Loop]]:
    """Kernels of a compiled program, and its loops, an inner one before the one around it.

    Of a conditional, those of all branches are counted.

    Args:
        hlo: the text of a program that was compiled for a GPU.

    Raises:
        ValueError: a loop does not say how many turns it makes.
    """
    computations: dict[str, list[str]] = {}
    entry = name = ""
    for line in hlo.splitlines():
        head = _COMPUTATION.match(line)
        if head:
            name = head[2]
            entry = name if head[1] else entry
            computations[name] = []
        elif name:
            computations[name].append(line)
    loops: list[Loop] = []

    def kernels_of(computation: str) -> int:
        return sum(map(kernels, computations[computation]))

    def kernels(line: str) -> int:
        found = _INSTRUCTION.match(line)
        if found is None or found[1] in _NO_KERNELS:
            return 0
        if found[1] == "while":
            turns = _TURNS.search(line)
            if turns is None:
                raise ValueError(f"The turns of a loop are not known: {line.strip()[:200]}")
            (body,) = re.findall(r"body=%([\w.-]+)", line)
            loop = Loop(int(turns[1]), kernels_of(body))
            loops.append(loop)
            return loop.turns * loop.kernels
        if found[1] in ("call", "conditional"):
            branches = re.findall(r"branch_computations=\{([^}]*)\}", line)
            called = [*_CALLED.findall(line), *re.findall(r"%([\w.-]+)", " ".join(branches))]
            return sum(map(kernels_of, called))
        return 1

    return kernels_of(entry), loops


def has_cuda_compiler() -> bool:
    """Whether the packages are there that this command needs."""
    found = importlib.util.find_spec("jax_plugins") is not None
    return found and importlib.util.find_spec("jax_plugins.xla_cuda12") is not None


def compile_for_gpu(row: gpu.Row, phase: str) -> str:
    """The program of a row, a chunk of updates, as it is compiled for an H200."""
    (device,) = _topology().devices
    sharding = jax.sharding.SingleDeviceSharding(device)
    place = functools.partial(jax.tree.map, functools.partial(_described, sharding))
    with gpu.forms_of(row):
        traced = update.trace(gpu.config_of(row), phase, seeds=row.seeds, place=place)
    compiled, _ = traced.compile()
    return compiled.as_text() or ""


def _described(sharding: jax.sharding.Sharding, array: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding)


@functools.cache
def _topology() -> topologies.TopologyDescription:
    """A machine with one H200."""
    from jax._src import xla_bridge

    # Without a GPU jax does not know that "gpu" means "cuda": github.com/jax-ml/jax/issues/23971.
    known = xla_bridge.canonicalize_platform
    xla_bridge.canonicalize_platform = lambda platform: (
        "cuda" if platform == "gpu" else known(platform)
    )
    return topologies.get_topology_desc(platform="cuda", target_config=_H200, topology="1x1x1")


def main(arguments: Sequence[str]) -> None:
    """Print a line for each row, and after it its figures as JSON."""
    if not has_cuda_compiler():
        raise app.UsageError("XLA's compiler for CUDA is missing: pip install the three packages.")
    gpu.set_flags("--xla_gpu_autotune_level=0")
    os.environ.update(_ENVIRONMENT)  # before jax starts
    (substring,) = arguments[1:] or [""]
    rows = [row for row in gpu.ROWS if row.flags == "default" and substring in row.name]
    rows = [row for row in rows if row.name == substring] or rows
    if not rows:
        names = "; ".join(row.name for row in gpu.ROWS)
        raise app.UsageError(f"No row has {substring!r} in its name. They are: {names}")
    for row in rows:
        hlo = compile_for_gpu(row, _PHASE.value)
        if _SAVE.value:
            folder = Path(_SAVE.value)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{row.name.replace('/', ' ')}.txt").write_text(hlo, encoding="utf-8")
        total, loops = count_kernels(hlo)
        *inner, _ = loops or [Loop(1, total)]  # the last one makes the updates of the chunk
        each = ", ".join(f"{loop.turns} turns of {loop.kernels}" for loop in inner)
        print(f"{row.name}: {total / row.chunk:,.0f} kernels; loops: {each or 'none'}")
        figures = {"name": row.name, "phase": _PHASE.value, "kernels": total / row.chunk}
        print(json.dumps(figures | {"loops": inner}), flush=True)


if __name__ == "__main__":
    app.run(main)
