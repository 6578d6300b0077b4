"""Collect an offline dataset: whole episodes of a simulated task, and what they are.

    python -m experiments.collect --task=dmc/walker_downhill --policy=random --episodes=20 \\
        --out=DIR --seed=0

``--policy=WORKDIR`` plays a trained agent. Episode i is a function of the task, the policy, the
seed and i alone. So the same command goes on where it was interrupted, a larger ``--episodes`` adds
to a finished dataset, and ``--workers`` changes nothing but the time that it takes.

    python -m experiments.collect --task=dmc/walker_downhill --policy=dreamer --until=medium \\
        --config=experiments/configs/dmc.py:small --workdir=runs/downhill --out=DIR

trains an agent online and keeps everything that it saw, by the paper's rule: ``medium`` until the
mean return of ten episodes reaches a third of the best return known for the task, ``expert`` until
it reaches that return. ``--reference`` gives the best return; without it, it is the highest that
the paper publishes (`experiments.collecting.references`). Any field of `Config` is a flag, as for
`experiments.train`. The same command goes on with what was interrupted, and ``expert`` with the
workdir of ``medium``.
"""

from __future__ import annotations

import dataclasses
import math
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags as ml_config_flags

from coworld_jax.data import usable_cores
from coworld_jax.envs import PROFILES, EnvironmentPool, Policy, RandomPolicy
from coworld_jax.training import runtime
from experiments.collecting.directory import say
from experiments.collecting.online import SHARES, collect_online, online_config
from experiments.collecting.played import collect, trained_policy
from experiments.collecting.references import reference_return
from experiments.command import as_path, one_sentence
from experiments.config_flags import HELP, normalise, parse_flags, resolve

_TASK = flags.DEFINE_string(
    "task", None, "SUITE/TASK, or MODULE:FUNCTION of your own; options after a +.", required=True
)
_POLICY = flags.DEFINE_string(
    "policy", "random", "random, dreamer, or a workdir of experiments.train."
)
_OUT = flags.DEFINE_string(
    "out", None, "Directory of the dataset; made when missing.", required=True
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the whole dataset.", lower_bound=0)
_PROFILE = flags.DEFINE_enum(
    "profile", "full", list(PROFILES), "How frames are rendered; of --config with dreamer."
)
_WORKERS = flags.DEFINE_integer(
    "workers",
    usable_cores(),
    "Simulators at the same time; of --config with dreamer.",
    lower_bound=1,
)
_EPISODE_STEPS = flags.DEFINE_integer(
    "episode_steps", None, "Time limit in env_steps; the task's own if not given.", lower_bound=1
)
# Without --policy=dreamer:
_EPISODES = flags.DEFINE_integer("episodes", 20, "Episodes of the dataset.", lower_bound=1)
_DOMAIN = flags.DEFINE_string(
    "domain", "", "Of the workdir: whose agent plays; by default the one trained on --task."
)
_EXPLORE = flags.DEFINE_bool("explore", True, "A trained agent samples its actions.")
# With it alone:
_UNTIL = flags.DEFINE_enum("until", "medium", list(SHARES), "How good the agent becomes.")
_REFERENCE = flags.DEFINE_float(
    "reference", None, "The best return of the task; the best published one if not given."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the agent's training.")
_UPDATES = flags.DEFINE_integer(
    "updates", 50_000, "Of the agent, at most; its replay needs memory for all.", lower_bound=1
)
_CONFIG = ml_config_flags.DEFINE_config_file("config", None, f"Of the agent: {HELP}")
_OF_PLAYING = ("episodes", "domain", "explore")
_OF_DREAMER = ("until", "reference", "workdir", "updates", "config")
_OVERRULED = (  # what --task, --seed and --updates say of the agent's configuration
    *("config.method", "config.source", "config.target", "config.data", "config.seed"),
    *("config.domain", "config.updates"),
)


def _refuse(names: Sequence[str], way_out: str) -> None:
    """Refuse flags that would be ignored.

    Raises:
        ValueError: one of them was given.
    """
    for argument in sys.argv[1:]:
        name = argument.lstrip("-").partition("=")[0]
        given = f"{name.removeprefix('no')}."
        if argument.startswith("-") and any(given.startswith(f"{name}.") for name in names):
            raise ValueError(
                f"--{name} has no meaning with --policy={_POLICY.value}: leave it out{way_out}."
            )


def _play(command: str) -> int:
    """Collect episodes of a policy that is given; returns how many there are."""
    _refuse(_OF_DREAMER, ", or use --policy=dreamer")
    with EnvironmentPool(
        _TASK.value,
        profile=_PROFILE.value,
        episode_steps=_EPISODE_STEPS.value,
        workers=min(_WORKERS.value, _EPISODES.value),
    ) as pool:
        policy: Policy
        played_by: str | dict[str, Any]
        if _POLICY.value == "random":
            policy, played_by = RandomPolicy(pool.spec.action_size), "random"
        else:
            policy, played_by = trained_policy(
                as_path(_POLICY.value), pool.spec, domain=_DOMAIN.value, explore=_EXPLORE.value
            )
        collect(
            as_path(_OUT.value),
            pool,
            policy,
            played_by=played_by,
            episodes=_EPISODES.value,
            seed=_SEED.value,
            command=command,
        )
        if pool.restarts:
            say(f"{pool.restarts} times a simulator died and was started again.")
    return _EPISODES.value


def _learn(command: str) -> int:
    """Train an agent and collect its replay; returns its episodes."""
    _refuse(_OF_PLAYING, "")
    _refuse(_OVERRULED, "; --task, --seed and --updates decide that")
    if _WORKDIR.value is None:
        raise ValueError("--policy=dreamer trains an agent: give it a directory with --workdir.")
    runtime.restart_with_huge_pages()
    workdir = as_path(_WORKDIR.value)
    reference = _REFERENCE.value
    if reference is None:
        reference = reference_return(_TASK.value)
    elif not 0.0 < reference < math.inf:
        raise ValueError(
            f"--reference is {reference:g}, but a share of it is asked for: it must be above 0."
        )
    config = online_config(resolve(_CONFIG.value), _TASK.value, _SEED.value, _UPDATES.value)
    run, schedule = config.run, config.schedule
    if flags.FLAGS["profile"].present:
        run = dataclasses.replace(run, profile=_PROFILE.value)
    if flags.FLAGS["workers"].present:
        run = dataclasses.replace(run, workers=_WORKERS.value)
    if _EPISODE_STEPS.value is not None:
        schedule = dataclasses.replace(schedule, episode_steps=_EPISODE_STEPS.value)
    print(f"Compiled programs are kept in {runtime.configure() or 'memory only'}.", file=sys.stderr)
    with runtime.StopRequest() as stop:
        episodes = collect_online(
            as_path(_OUT.value),
            workdir,
            dataclasses.replace(config, run=run, schedule=schedule),
            until=_UNTIL.value,
            reference=reference,
            command=command,
            stop=stop,
        )
    if episodes is None:
        print("collect: stopped; the same command goes on.", file=sys.stderr)
        sys.exit(stop.status)
    return episodes


def main(arguments: Sequence[str]) -> None:
    """Collect what the flags say."""
    if len(arguments) > 1:
        raise app.UsageError(f"{arguments[1]!r} is no flag.")
    logging.set_verbosity(logging.WARNING)
    command = shlex.join(["python", "-m", "experiments.collect", *sys.argv[1:]])
    with one_sentence("collect: interrupted; the same command goes on."):
        episodes = _learn(command) if _POLICY.value == "dreamer" else _play(command)
    print(f"{_OUT.value}: {episodes} episodes of {_TASK.value}; look at them with")
    print(f"python -m experiments.dataset inspect {shlex.quote(_OUT.value)}")


def run() -> None:
    """Parse the command line; a bad one gets one sentence."""
    try:
        arguments = normalise(sys.argv, "dreamer")
    except ValueError as error:
        sys.exit(str(error))
    app.run(main, argv=arguments, flags_parser=parse_flags)


if __name__ == "__main__":
    run()
