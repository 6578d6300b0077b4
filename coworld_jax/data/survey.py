"""Figures of a dataset that need no images: lengths, returns, actions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from coworld_jax.data.directory import episode_files, read_headers
from coworld_jax.data.episodes import acts_outside, read_numbers
from coworld_jax.data.faults import DataError, Fault


class Summary(NamedTuple):
    """Figures of a dataset that need no images."""

    episodes: int
    rows: int
    env_steps: int  # rows without the resets
    shortest: int  # rows
    longest: int  # rows
    action_size: int
    actions_outside: int  # env_steps with a coordinate outside [-1, 1]
    terminated: int  # episodes that end with discount 0
    acting_resets: int  # episodes whose row 0 has an action or a reward
    returns: dict[str, float]  # mean and quantiles, raw reward units


class Survey(NamedTuple):
    """Everything but the images of a dataset's good files."""

    paths: list[Path]
    lengths: np.ndarray  # int32 [episodes], rows
    action: np.ndarray  # float32 [N, A], the episodes end to end
    reward: np.ndarray  # float32 [N]
    discount: np.ndarray  # float32 [N]

    @property
    def starts(self) -> np.ndarray:
        """First row of each episode, int ``[episodes]``."""
        return np.cumsum(self.lengths) - self.lengths

    @property
    def returns(self) -> np.ndarray:
        """Undiscounted return of each episode, float64 ``[episodes]``."""
        return np.add.reduceat(self.reward, self.starts, dtype=np.float64)

    @property
    def played(self) -> np.ndarray:
        """Actions that somebody chose, float32 ``[env_steps, A]``: all but those of the resets."""
        return np.delete(self.action, self.starts, axis=0)

    @property
    def summary(self) -> Summary:
        """The figures."""
        starts, ends = self.starts, np.cumsum(self.lengths)
        resets = self.action[starts].any(axis=1) | (self.reward[starts] != 0.0)
        return Summary(
            episodes=len(self.paths),
            rows=len(self.action),
            env_steps=len(self.action) - len(self.paths),
            shortest=int(self.lengths.min()),
            longest=int(self.lengths.max()),
            action_size=self.action.shape[1],
            actions_outside=int(acts_outside(self.played).sum()),
            terminated=int((self.discount[ends - 1] == 0.0).sum()),
            acting_resets=int(resets.sum()),
            returns=return_quantiles(self.returns.tolist()),
        )


def survey(directory: Path | str) -> tuple[Survey | None, list[Fault]]:
    """What the files that can be read hold, or None; and what is wrong with the others.

    Images are not decompressed: `validate_directory` does that.

    Raises:
        DataError: no episode files there.
    """
    headers, faults = read_headers(episode_files(Path(directory)), 1, None)
    good, numbers = [], []
    for header in headers:
        try:
            numbers.append(read_numbers(header))
            good.append(header)
        except DataError as error:
            faults.extend(error.faults)
    if not good:
        return None, sorted(faults)
    action, reward, discount = (np.concatenate(values) for values in zip(*numbers, strict=True))
    lengths = np.array([header.rows for header in good], np.int32)
    paths = [header.path for header in good]
    return Survey(paths, lengths, action, reward, discount), sorted(faults)


def summarise(directory: Path | str) -> tuple[Summary | None, list[Fault]]:
    """Figures of the files that can be read, or None; and what is wrong with the others.

    Raises:
        DataError: no episode files there.
    """
    found, faults = survey(directory)
    return None if found is None else found.summary, faults


def return_quantiles(returns: Sequence[float]) -> dict[str, float]:
    """Mean, and the quantiles 0, 0.25, 0.5, 0.75 and 1, of episodes' returns."""
    names = ("min", "q25", "median", "q75", "max")
    quantiles = np.quantile(returns, (0.0, 0.25, 0.5, 0.75, 1.0))
    return {"mean": float(np.mean(returns))} | dict(zip(names, map(float, quantiles)))
