"""The replay of an agent that learns online: medium-replay and medium-expert datasets.

The paper's rule: medium-replay holds all that the agent saw until it reached a third of the best
return, medium-expert until it reached the best.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from coworld_jax.config import Config
from coworld_jax.data.episodes import read_header
from coworld_jax.data.replacing import replacing
from coworld_jax.envs.naming import parse_task
from coworld_jax.method import SOURCE
from coworld_jax.records.files import read_tasks
from coworld_jax.training.loop import train
from coworld_jax.training.runtime import StopRequest
from experiments.collecting.directory import claim, complete, say, settle

SHARES = {"medium": 1 / 3, "expert": 1.0}  # of the reference return
WINDOW = 10  # episodes whose mean return must reach it: single ones vary too much


def online_config(config: Config, task: str, seed: int, updates: int) -> Config:
    """``config``, of one DreamerV2 agent, as a plan that trains it online on ``task``."""
    settings = dataclasses.replace(config.settings, domain=SOURCE, updates=updates)
    return dataclasses.replace(
        config, source=(task,), target="", data="", seed=seed, settings=settings
    )


def window_means(returns: Sequence[float]) -> np.ndarray:
    """Mean return of every `WINDOW` successive episodes, ``[max(len(returns) - WINDOW + 1, 0)]``.

    Args:
        returns: undiscounted return of each episode, in order.
    """
    sums = np.cumsum([0.0, *returns])
    return (sums[WINDOW:] - sums[:-WINDOW]) / WINDOW


def episodes_until(returns: Sequence[float], wanted: float) -> int | None:
    """How many episodes it took until the mean of the last `WINDOW` was at least ``wanted``.

    Returns:
        Their number, the last one included; None if it has not happened yet.
    """
    reached = np.flatnonzero(window_means(returns) >= wanted)
    return WINDOW + int(reached[0]) if reached.size else None


def collect_online(
    out: Path,
    workdir: Path,
    config: Config,
    *,
    until: str,
    reference: float,
    command: str,
    stop: StopRequest | None = None,
) -> int | None:
    """Train an agent in ``workdir`` until it is good enough, and make its replay a dataset.

    Both go on where they were interrupted, and the training of ``medium`` goes on to ``expert`` in
    the same workdir, or to more updates than it first had.

    Args:
        out: empty, or begun or finished by this function with the same arguments.
        workdir: of the training.
        config: from `online_config`.
        until: key of `SHARES`.
        reference: the best return of the task; the rule wants a share of it.
        command: recorded for the reader.
        stop: see `train`.

    Returns:
        Episodes of the dataset; None if SIGTERM or SIGINT stopped the training early.

    Raises:
        ValueError: bad configuration, ``out`` holds something else, or the agent has not reached
            the return in the updates that it had.
        OSError: ``out`` cannot be written to; before the training starts.
        DataError: an episode of the replay is damaged.
    """
    wanted = reference * SHARES[until]
    policy = {
        "agent": "dreamer", "workdir": str(workdir), "until": until, "window": WINDOW,
        "return": wanted,
    }  # fmt: skip
    say(
        f"{until}: training until the mean return of {WINDOW} episodes is {wanted:.4g}, "
        f"{SHARES[until]:.2g} of {reference:.4g}."
    )
    record = {"task": str(parse_task(config.source[0])), "seed": config.seed, "policy": policy}
    claim(out, record)
    episodes, best = 0, float("-inf")
    count: int | None = None

    def reached(returns: Mapping[str, Sequence[float]]) -> bool:
        nonlocal episodes, best, count
        seen = returns["source"]
        if len(seen) == episodes:
            return count is not None
        episodes, count = len(seen), episodes_until(seen, wanted)
        highest = max(window_means(seen).tolist(), default=best)
        if highest > best:
            best = highest
            say(f"{episodes} episodes; best mean return of {WINDOW}: {best:.4g} of {wanted:.4g}.")
        return count is not None

    finished = train(config, workdir, reached, stop)
    if count is None and finished is None:
        return None
    if count is None:
        raise ValueError(
            f"The agent of {workdir} has made all of its {config.settings.updates} "
            f"updates; the best mean return of {WINDOW} episodes was {best:.4g}, and "
            f"--until={until} wants {wanted:.4g}: give a lower --reference, or more --updates."
        )
    spec = read_tasks(workdir)["source"]
    settings = spec.settings() | record
    files = sorted((workdir / "replay" / "source").glob("*.npz"))[:count]
    there = settle(out, settings, [path.stem for path in files])
    for path in files:
        if path.stem not in there:
            _copy(path, out)
    complete(out, settings, command)
    return count


def _copy(episode: Path, out: Path) -> None:
    """Put an episode of a replay into ``out``: the whole file, or none if this is killed."""
    header = read_header(episode)
    with replacing(out / f"{episode.stem}-{header.rows}.npz") as file:
        shutil.copyfile(episode, file)
