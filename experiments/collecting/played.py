"""Episodes that a given policy plays."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from coworld_jax.data import save_episode
from coworld_jax.envs import EnvironmentPool, EnvironmentSpec, Policy, episode_seed
from coworld_jax.records.progress import format_duration
from experiments.collecting.directory import complete, say, settle

_SECONDS = 5.0  # between two lines of progress


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
    settings = spec.settings() | {"seed": seed, "policy": played_by}
    seeds = [episode_seed(seed, f"collect/{spec.task}", index) for index in range(episodes)]
    names = [f"{index:06d}-{value:08x}" for index, value in enumerate(seeds)]
    there = settle(out, settings, names)
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
            say(
                f"{len(there) + number}/{episodes} episodes, last return "
                f"{episode.reward.sum():.1f}, {env_steps / (now - began):.0f} env_steps/s, "
                f"{format_duration(left)} left"
            )
    complete(out, settings, command)


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
    from coworld_jax.training import runtime
    from coworld_jax.workdir import policy_of, restore_run

    runtime.configure()
    run = restore_run(workdir)
    specs = run.specs
    if not domain:
        fitting = [name for name in specs if specs[name].task == spec.task]
        if not fitting:
            tasks = ", ".join(f"{name} ({specs[name].task})" for name in specs)
            raise ValueError(
                f"No agent of {workdir} was trained on {spec.task}: choose --domain={tasks}."
            )
        domain = fitting[0]
    policy = policy_of(run, workdir, domain, explore=explore)
    if specs[domain].action_size != spec.action_size:
        raise ValueError(
            f"The agent of {domain} in {workdir} takes {specs[domain].action_size} actions, but "
            f"{spec.task} takes {spec.action_size}: choose another --domain."
        )
    if policy.reads == "state" and specs[domain].state_size != spec.state_size:
        raise ValueError(
            f"The agent of {domain} in {workdir} reads states of {specs[domain].state_size} "
            f"numbers, but {spec.task} gives {spec.state_size}: choose another --domain."
        )
    if policy.reads == "image" and specs[domain].profile != spec.profile:
        say(
            f"the agent saw frames of profile {specs[domain].profile}, and will now see "
            f"{spec.profile}."
        )
    description = {
        "workdir": str(workdir), "domain": domain, "explore": explore,
        "updates": run.updates,
    }  # fmt: skip
    return policy, description
