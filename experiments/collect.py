"""Collect an offline dataset: whole episodes of a simulated task, and what they are.

    python -m experiments.collect --task=dmc/walker_downhill --policy=random --episodes=20 \\
        --out=DIR --seed=0

``--policy=WORKDIR`` plays a trained agent. Episode i is a function of the task, the policy, the
seed and i alone. So the same command goes on where it was interrupted, a larger ``--episodes`` adds
to a finished dataset, and ``--workers`` changes nothing but the time that it takes.
"""

from __future__ import annotations

import os
import platform
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags, logging

from coworld_jax import runtime
from coworld_jax.data import DataError, read_metadata, save_episode, summarise, write_metadata
from coworld_jax.data.metadata import METADATA_NAME
from coworld_jax.envs import (
    PROFILES,
    EnvironmentPool,
    EnvironmentSpec,
    GraphicsError,
    Policy,
    RandomPolicy,
    VersionError,
    WorkerFailed,
    episode_seed,
)
from coworld_jax.metrics import format_duration

_TASK = flags.DEFINE_string(
    "task", None, "SUITE/TASK, or MODULE:FUNCTION of your own; options after a +.", required=True
)
_POLICY = flags.DEFINE_string("policy", "random", "random, or a workdir of experiments.train.")
_EPISODES = flags.DEFINE_integer("episodes", 20, "Episodes of the dataset.", lower_bound=1)
_OUT = flags.DEFINE_string(
    "out", None, "Directory of the dataset; made when missing.", required=True
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the whole dataset.", lower_bound=0)
_PROFILE = flags.DEFINE_enum("profile", "full", list(PROFILES), "How frames are rendered.")
_WORKERS = flags.DEFINE_integer(
    "workers", os.cpu_count() or 1, "Simulators at the same time.", lower_bound=1
)
_EPISODE_STEPS = flags.DEFINE_integer(
    "episode_steps", None, "Time limit in env_steps; the task's own if not given.", lower_bound=1
)
_DOMAIN = flags.DEFINE_string(
    "domain", "", "Of the workdir: whose agent plays; by default the one trained on --task."
)
_EXPLORE = flags.DEFINE_bool("explore", True, "A trained agent samples its actions.")

_UNFINISHED = "collection.json"
_SECONDS = 5.0  # between two lines of progress, where they do not overwrite each other


def collect(
    out: Path,
    pool: EnvironmentPool,
    policy: Policy,
    *,
    played_by: str | Mapping[str, Any],
    episodes: int,
    seed: int,
    command: str,
) -> None:
    """Fill ``out`` up to ``episodes`` episodes and write its ``dataset.json``.

    Args:
        out: empty, or a directory that this function began, or finished, with the same settings.
        pool: simulators of the task.
        policy: who plays.
        played_by: description of the policy; equal for equal policies.
        episodes: that the dataset shall have.
        seed: of the dataset.
        command: recorded for the reader.

    Raises:
        ValueError: ``out`` holds something else, or more episodes already.
        DataError: a file there is damaged.
    """
    spec = pool.spec
    settings = spec._asdict() | {"versions": dict(spec.versions), "seed": seed, "policy": played_by}
    seeds = [episode_seed(seed, f"collect/{spec.task}", index) for index in range(episodes)]
    names = [f"{index:06d}-{value:08x}" for index, value in enumerate(seeds)]
    there = _settle(out, settings, names)
    missing = [index for index in range(episodes) if names[index] not in there]
    began = shown = time.monotonic()
    env_steps = 0
    collected = pool.map([seeds[index] for index in missing], policy)
    for number, (index, episode) in enumerate(zip(missing, collected, strict=True), 1):
        save_episode(out, episode, name=f"{names[index]}-{len(episode.reward)}")
        env_steps += len(episode.reward) - 1
        now = time.monotonic()
        if now - shown >= _SECONDS or number == len(missing):
            shown = now
            left = (now - began) * (len(missing) / number - 1)
            _say(
                f"{len(there) + number}/{episodes} episodes, last return "
                f"{episode.reward.sum():.1f}, {env_steps / (now - began):.0f} env_steps/s, "
                f"{format_duration(left)} left"
            )
    summary, faults = summarise(out)
    if faults or summary is None:
        raise DataError(f"{faults[0]} Delete it; the same command collects it again.", faults)
    described = summary._asdict() | {"python": platform.python_version(), "numpy": np.__version__}
    write_metadata(out, settings | described | {"command": command})
    (out / _UNFINISHED).unlink(missing_ok=True)


def _settle(out: Path, settings: Mapping[str, Any], names: Sequence[str]) -> set[str]:
    """Make ``out`` a directory of these settings; returns the names of episodes already there.

    Raises:
        ValueError: it belongs to something else, or has more episodes than ``names``.
    """
    out.mkdir(parents=True, exist_ok=True)
    there = {path.stem.rpartition("-")[0] for path in out.glob("*.npz")}
    finished = read_metadata(out)
    record = read_metadata(out, _UNFINISHED) if finished is None else finished
    if record is not None:
        changed = [
            f"{key}: {record[key] if key in record else 'absent'} -> {settings[key]}"
            for key in settings
            if key not in record or record[key] != settings[key]
        ]
        if changed:
            raise ValueError(
                f"{out} was collected with other settings ({'; '.join(changed)}): use the old ones "
                "to go on with it, or another --out."
            )
    foreign = there - set(names)
    if record is None and there:
        raise ValueError(f"{out} holds episodes that this command has not made: use another --out.")
    if foreign:
        raise ValueError(
            f"{out} holds {len(there)} episodes, {len(foreign)} of them not among the "
            f"{len(names)} that are asked for: ask for more --episodes, or use another --out."
        )
    if len(there) == len(names) and finished is not None:
        _say(f"{out} is complete: {len(names)} episodes.")
        return there
    if there:
        _say(f"{out} has {len(there)} of {len(names)} episodes; the others are collected.")
    # A directory with a dataset.json is complete, so this one loses it until it is.
    write_metadata(out, settings, _UNFINISHED)
    (out / METADATA_NAME).unlink(missing_ok=True)
    for leftover in out.glob(".*.tmp"):
        leftover.unlink()
    return there


def _say(text: str) -> None:
    print(f"collect: {text}", file=sys.stderr, flush=True)


def trained_policy(
    workdir: Path, spec: EnvironmentSpec, *, domain: str, explore: bool
) -> tuple[Policy, dict[str, Any]]:
    """The agent of a run that plays ``spec.task``, and the description of it that is recorded.

    Args:
        workdir: of `experiments.train`.
        spec: the environment that it will act in.
        domain: whose agent; if empty, the one of the domain whose task this is.
        explore: whether it samples its actions.

    Raises:
        ValueError: no such run, no such domain, or an agent for other actions.
        FileNotFoundError: the run has saved no checkpoint yet.
    """
    # Only here: a random policy needs no networks.
    from coworld_jax.checkpoint import Checkpointer
    from coworld_jax.workdir import CHECKPOINTS, load_policy, read_config, read_tasks

    runtime.configure()
    read_config(workdir)  # refuses what is no workdir
    specs = read_tasks(workdir)
    if not domain:
        fitting = [name for name in specs if specs[name].task == spec.task]
        if not fitting:
            tasks = ", ".join(f"{name} ({specs[name].task})" for name in specs)
            raise ValueError(
                f"No agent of {workdir} was trained on {spec.task}: choose --domain={tasks}."
            )
        domain = fitting[0]
    policy = load_policy(workdir, domain=domain, explore=explore)
    if specs[domain].action_size != spec.action_size:
        raise ValueError(
            f"The agent of {domain} in {workdir} takes {specs[domain].action_size} actions, but "
            f"{spec.task} takes {spec.action_size}: choose another --domain."
        )
    if specs[domain].profile != spec.profile:
        _say(
            f"the agent saw frames of profile {specs[domain].profile}, and will now see "
            f"{spec.profile}."
        )
    with Checkpointer(workdir / CHECKPOINTS, read_only=True) as checkpoints:
        updates = checkpoints.latest_step()
    description = {
        "workdir": str(workdir), "domain": domain, "explore": explore, "updates": updates
    }  # fmt: skip
    return policy, description


def main(arguments: Sequence[str]) -> None:
    """Collect what the flags say."""
    if len(arguments) > 1:
        raise app.UsageError(f"{arguments[1]!r} is no flag.")
    logging.set_verbosity(logging.WARNING)
    out, episodes = Path(_OUT.value), _EPISODES.value
    try:
        with EnvironmentPool(
            _TASK.value,
            profile=_PROFILE.value,
            episode_steps=_EPISODE_STEPS.value,
            workers=min(_WORKERS.value, episodes),
        ) as pool:
            policy: Policy
            played_by: str | dict[str, Any]
            if _POLICY.value == "random":
                policy, played_by = RandomPolicy(pool.spec.action_size), "random"
            else:
                policy, played_by = trained_policy(
                    Path(_POLICY.value), pool.spec, domain=_DOMAIN.value, explore=_EXPLORE.value
                )
            collect(
                out,
                pool,
                policy,
                played_by=played_by,
                episodes=episodes,
                seed=_SEED.value,
                command=shlex.join(["python", "-m", "experiments.collect", *sys.argv[1:]]),
            )
    except KeyboardInterrupt:
        sys.exit("collect: interrupted; the same command goes on.")
    except (ValueError, FileNotFoundError, GraphicsError, VersionError, WorkerFailed) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    print(f"{out}: {episodes} episodes of {_TASK.value}; look at them with")
    print(f"python -m experiments.dataset inspect {out}")


if __name__ == "__main__":
    app.run(main)
