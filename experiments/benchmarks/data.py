"""Reading a dataset: from compressed episode files to arrays on the device.

The time and the memory of a process that does nothing else, on rendered frames: random ones would
not compress, and blank ones would cost nothing.
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax

from coworld_jax.data import load_directory, load_episode, save_episode
from coworld_jax.data.episodes import IMAGE_SHAPE
from coworld_jax.envs import EnvironmentPool, RandomPolicy
from coworld_jax.training import runtime

_TASK, _PROFILE = "dmc/walker_walk", "fast"
_STEPS = 500  # env_steps of an episode
_RENDERED = 4  # episodes that are simulated; the other files are copies of them
_STATUS = Path("/proc/self/status")


def measure(frames: int) -> dict[str, Any]:
    """Read ``frames`` frames in whole episodes into the resident store, in a fresh process.

    Returns:
        ``seconds``; ``frame_bytes``, those of the frames; ``file_bytes``, those of the files;
        ``peak_bytes`` of the whole process, interpreter and libraries included, and
        ``base_bytes`` before it began to read; ``peak_over_frames`` and ``growth_over_frames``,
        the peak, and the peak without that base, as multiples of ``frame_bytes``.

    Raises:
        ValueError: fewer than 2 frames.
        ValueError: also if the reading process failed, with the reason.
    """
    if frames < 2:
        raise ValueError(f"An episode has at least 2 frames, and {frames} are no episode.")
    with tempfile.TemporaryDirectory(prefix="coworld_jax_data_") as place:
        directory = Path(place) / "episodes"
        episodes = _fill(directory, frames)
        reading = [sys.executable, "-m", __name__, str(directory)]
        done = subprocess.run(reading, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr.splitlines() or [f"exit status {done.returncode}"])[-1]
            raise ValueError(f"The process that reads the frames failed: {reason}")
        figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        rows = figures.pop("rows")
        assert rows == frames
        file_bytes = sum(path.stat().st_size for path in directory.iterdir())
    frame_bytes = frames * math.prod(IMAGE_SHAPE)
    return {
        "frames": frames,
        "episodes": episodes,
        "frame_bytes": frame_bytes,
        "file_bytes": file_bytes,
        **figures,
        "frames_per_second": frames / figures["seconds"],
        "peak_over_frames": figures["peak_bytes"] / frame_bytes,
        "growth_over_frames": (figures["peak_bytes"] - figures["base_bytes"]) / frame_bytes,
    }


def _fill(directory: Path, frames: int) -> int:
    """Make episode files of ``frames`` rows in all; returns how many files."""
    rendered = directory.with_name("rendered")
    with EnvironmentPool(_TASK, profile=_PROFILE, episode_steps=min(_STEPS, frames - 1)) as pool:
        policy = RandomPolicy(pool.spec.action_size)
        for index, episode in enumerate(pool.map(range(_RENDERED), policy)):
            save_episode(rendered, episode, name=f"{index}")
    rows = len(load_episode(rendered / "0.npz").reward)
    directory.mkdir()
    for index in range(frames // rows):
        shutil.copyfile(rendered / f"{index % _RENDERED}.npz", directory / f"{index:06d}.npz")
    rest = frames % rows
    if rest:
        episode = load_episode(rendered / "0.npz")
        short = episode._replace(
            image=episode.image[:rest],
            action=episode.action[:rest],
            reward=episode.reward[:rest],
            discount=episode.discount[:rest],
            extras={},
        )
        save_episode(directory, short, name=f"{frames // rows:06d}")
    return len(list(directory.iterdir()))


def _read(directory: Path) -> dict[str, float]:
    """The figures of this process, which reads ``directory``."""
    jax.block_until_ready(jax.device_put(0.0))  # the backend is there before the clock starts
    base, began = _peak_bytes(), time.perf_counter()
    dataset = load_directory(directory, minimum_rows=1)
    store = jax.block_until_ready(dataset.store(dataset.action_size))
    seconds = time.perf_counter() - began
    if dataset.cache is not None:
        sys.exit("too little memory is free to hold the frames: ask for fewer --frames.")
    rows = len(store.image)
    return {"rows": rows, "seconds": seconds, "base_bytes": base, "peak_bytes": _peak_bytes()}


def _peak_bytes() -> int:
    """Peak resident memory of this process, since it was started, on the host."""
    if _STATUS.exists():
        # ru_maxrss would count what the parent had when it started this process
        fields = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
        return int(fields["VmHWM"].split()[0]) * 1024
    return runtime.peak_bytes()


if __name__ == "__main__":
    print(json.dumps(_read(Path(sys.argv[1]))))
