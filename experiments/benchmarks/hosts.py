"""What several hosts cost: two processes of this machine agree, exchange and learn.

As a program, ``python -m experiments.benchmarks.hosts ADDRESS:PORT,COUNT,INDEX``, it is one of the
hosts: it reads the setting as JSON from stdin and prints its figures.
"""

from __future__ import annotations

import json
import socket
import statistics
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np

from coworld_jax import config as configuration
from coworld_jax import hosts
from coworld_jax.config import Config
from coworld_jax.data import share_episodes
from coworld_jax.training import runtime
from coworld_jax.types import Episode
from coworld_jax.workdir import config_from_flat
from experiments.benchmarks import update
from experiments.benchmarks.timing import seconds

_HOSTS = 2
_AGREEMENTS = 200  # measured in a row
_EXCHANGES = 5
_ROWS = 501  # of an exchanged episode
_CHUNK = 100  # updates of a chunk, as a run has them
_PER_CHUNK = 2  # agreements: before a collection begins, and before the updates


def measure(config: Config, phase: str, repeats: int) -> dict[str, Any]:
    """The figures of host 0.

    Returns:
        ``agreement_over_chunk`` is the time of the agreements of a chunk over that of its updates.

    Raises:
        ValueError: a host failed.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    setting = {"config": configuration.flatten(config), "phase": phase, "repeats": repeats}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", __name__, f"127.0.0.1:{port},{_HOSTS},{index}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for index in range(_HOSTS)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(json.dumps(setting))
        process.stdin.close()
    said = [process.stdout.read() for process in processes if process.stdout is not None]
    if any(process.wait() for process in processes):
        raise ValueError("A host failed: its messages are above.")
    figures: dict[str, Any] = json.loads(said[0].splitlines()[-1])
    return figures


def _figures(config: Config, phase: str, repeats: int) -> dict[str, Any]:
    """What this host finds, together with the others."""
    config = replace(config, run=replace(config.run, devices=1))
    program = update.prepare(config, phase)
    chunks = [seconds(program.run_chunk) / config.run.chunk for _ in range(repeats)]
    hosts.any_of(False)  # compiles
    agreement = seconds(lambda: [hosts.any_of(False) for _ in range(_AGREEMENTS)]) / _AGREEMENTS
    frames = np.zeros((_ROWS, 64, 64, 3), np.uint8)
    column = np.zeros((_ROWS,), np.float32)
    episode = Episode(frames, np.zeros((_ROWS, 6), np.float32), column, column, {})
    exchanges = [
        seconds(lambda: share_episodes({hosts.index(): episode})) for _ in range(_EXCHANGES)
    ]
    median = statistics.median(chunks)
    return {
        "hosts": hosts.count(),
        "update_seconds": median,
        "agreement_seconds": agreement,
        "agreement_over_chunk": _PER_CHUNK * agreement / (_CHUNK * median),
        "episode_exchange_seconds_first": exchanges[0],
        "episode_exchange_seconds": statistics.median(exchanges[1:]),
    }


if __name__ == "__main__":
    hosts.start(sys.argv[1])
    runtime.configure(cache=False)
    given = json.load(sys.stdin)
    print(json.dumps(_figures(config_from_flat(given["config"]), given["phase"], given["repeats"])))
