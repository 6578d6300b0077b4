"""Small random episodes for the tests of data."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from coworld_jax.data import save_episode
from coworld_jax.envs import EnvironmentPool, RandomPolicy, episode_seed
from coworld_jax.types import Episode

ROWS = 9


def make_episode(
    seed: int, rows: int = ROWS, action_size: int = 3, **extras: np.ndarray
) -> Episode:
    """An episode whose images compress a little, with a proper reset row."""
    rng = np.random.default_rng(seed)
    image = np.repeat(rng.integers(0, 256, (rows, 64, 16, 3), np.uint8), 4, axis=2)
    action = rng.uniform(-1.0, 1.0, (rows, action_size)).astype(np.float32)
    reward = rng.normal(size=rows).astype(np.float32)
    action[0], reward[0] = 0.0, 0.0
    return Episode(image, action, reward, np.ones(rows, np.float32), extras)


def arrays(episode: Episode) -> dict[str, np.ndarray]:
    """Keys and values as a file holds them."""
    named = {**episode._asdict(), **episode.extras}
    del named["extras"]
    return named


def save_raw(path: Path, **changes: np.ndarray | None) -> Path:
    """An episode file with some arrays replaced, or left out where the change is None."""
    values = arrays(make_episode(1, ROWS)) | changes
    np.savez_compressed(path, **{key: v for key, v in values.items() if v is not None})
    return path


def save_three(directory: Path) -> Path:
    """Episodes of 9, 6 and 8 rows."""
    for index, rows in enumerate((9, 6, 8)):
        save_episode(directory, make_episode(index, rows), name=f"{index:06d}")
    return directory


def save_rendered(directory: Path) -> Path:
    """Three episodes of walker_downhill, ten steps each, really rendered."""
    with EnvironmentPool("dmc/walker_downhill", profile="fast", episode_steps=10) as pool:
        seeds = [episode_seed(0, "test", index) for index in range(3)]
        for index, episode in enumerate(pool.map(seeds, RandomPolicy(6))):
            save_episode(directory, episode, name=f"{index:06d}")
    return directory


def assert_same_episode(one: Episode, two: Episode) -> None:
    """Bit for bit, dtypes and the names of extras included."""
    left, right = arrays(one), arrays(two)
    assert left.keys() == right.keys()
    for key, value in left.items():
        assert value.dtype == right[key].dtype, key
        np.testing.assert_array_equal(value, right[key], err_msg=key)
