"""Tiny runs whose results are written down in ``digests.json``; run this file to write them anew.

    python tests/record_digests.py

Nothing that is learnt may change without a commit that says so. The digest is compared where jax's
version and the processor's instructions are those of the record; sums of the parameters, which
rounding hardly moves, are compared everywhere.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import conftest  # noqa: F401  # the tests' flags, before jax starts
import jax
import jax.numpy as jnp
import numpy as np
import tiny

from coworld_jax.config import Config
from coworld_jax.data import save_episode
from coworld_jax.envs import EnvironmentPool, RandomPolicy, episode_seed
from coworld_jax.training.loop import train
from coworld_jax.workdir import restore_run

FILE = Path(__file__).with_name("digests.json")


def machine() -> str:
    """What decides the last bits of a sum: jax's version, vector instructions, XLA's flags."""
    wanted = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_tile")
    cpuinfo = Path("/proc/cpuinfo")
    flags = set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()
    found = " ".join(name for name in wanted if name in flags)
    processor = f"{platform.machine()} {found}".rstrip()
    return f"jax {jax.__version__}, {processor}, {os.environ['XLA_FLAGS']}"


def save_data(directory: Path) -> None:
    """Three random episodes of the windy task."""
    directory.mkdir()
    with EnvironmentPool("toy_tasks:windy", profile="fast", episode_steps=10) as pool:
        seeds = [episode_seed(0, "test", index) for index in range(3)]
        for index, episode in enumerate(pool.map(seeds, RandomPolicy(2))):
            save_episode(directory, episode, name=f"{index:06d}")


def runs(data: Path) -> dict[str, Config]:
    """The runs by name. Evaluations are off: they do not change what is learnt."""
    base = replace(
        tiny.CONFIG,
        source=("toy_tasks:calm",),
        target="toy_tasks:windy",
        data=str(data),
        run=replace(tiny.CONFIG.run, devices=1, eval_episodes=0),
    )
    three = ("toy_tasks:calm", "toy_tasks:wide", "toy_tasks:windy")
    categorical = replace(base, settings=tiny.categorical().settings)
    return {
        "single source": base,
        "two devices": replace(base, run=replace(base.run, devices=2)),
        "wider source": replace(base, source=("toy_tasks:wide",)),
        "three sources": replace(base, source=three),
        "categorical latents, discount head": categorical,
        "ablations": tiny.with_settings(
            base,
            coupling={"constraint_max": False, "state_alignment": False},
            schedule={"final_source_phase": True, "first_updates": 1},
        ),
        "state source": replace(base, settings=replace(base.settings, source_observation="state")),
    }


def parameter_sums(tree: Any) -> dict[str, float]:
    """Sum of the absolute values of each part of a state, by the part's path."""
    sums: dict[str, float] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            continue
        name = jax.tree_util.keystr(path)
        several = name.startswith(".sources")
        part = name.partition("'")[0].rstrip("[") if several else name.partition("[")[0]
        total = float(np.abs(np.asarray(leaf, np.float64)).sum())
        sums[part] = total + (sums[part] if part in sums else 0.0)
    return sums


def result(config: Config, workdir: Path) -> dict[str, Any]:
    """Train, and what is compared of it."""
    summary = train(config, workdir)
    assert summary is not None
    return {
        "digest": summary["state_digest"],
        "updates": summary["updates"],
        "sums": parameter_sums(restore_run(workdir).state),
    }


def main() -> None:
    """Write ``digests.json``."""
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory) / "data"
        save_data(data)
        results = {}
        for number, (name, config) in enumerate(runs(data).items()):
            results[name] = result(config, Path(directory) / str(number))
            print(name, results[name]["digest"])
    FILE.write_text(json.dumps({"machine": machine(), "runs": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
