"""What a run's directory says about the run: its configuration, its tasks, its agents.

``config.json`` is the resolved configuration and ``tasks.json`` describes the environments that it
was built for, so that an agent can be restored without starting a simulator.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

from coworld_jax import config as configuration
from coworld_jax import parallel, schedule
from coworld_jax.agent import AgentState
from coworld_jax.checkpoint import Checkpointer
from coworld_jax.config import Config
from coworld_jax.coworld import CoWorld, CoWorldState, init_coworld, make_coworld, source_name
from coworld_jax.data import write_json
from coworld_jax.envs import EnvironmentSpec
from coworld_jax.policy import AgentPolicy

CHECKPOINTS = "checkpoints"
CONFIG = "config.json"


@contextmanager
def lock(workdir: Path) -> Iterator[None]:
    """Keep other processes from training in ``workdir``; the lock ends with the process.

    Raises:
        ValueError: another process has it.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    with (workdir / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"Another process is training in {workdir}: wait for it, or choose another "
                "--workdir."
            ) from error
        yield


def check_config(workdir: Path, config: Config) -> None:
    """Make sure that a workdir is new, or that its run had this configuration.

    Fields that are `config.CHANGEABLE` may differ. And a plan that is nothing but one source's
    pretraining may be longer than it was: no update depends on how many follow.

    Raises:
        ValueError: the directory belongs to a run with another configuration.
    """
    path = workdir / CONFIG
    if not path.exists():
        return
    recorded = read_config(workdir)
    updates = config.schedule.pretrain_updates
    if schedule.only_pretrains(config) and updates > recorded.schedule.pretrain_updates:
        longer = dataclasses.replace(recorded.schedule, pretrain_updates=updates)
        recorded = dataclasses.replace(recorded, schedule=longer)
    changed = [
        line
        for line in configuration.differences(recorded, config)
        if line.partition(":")[0] not in configuration.CHANGEABLE
    ]
    if changed:
        raise ValueError(
            f"{path} belongs to a run with another configuration ({'; '.join(changed)}): start it "
            "with the old values, or choose another --workdir."
        )


def write_config(workdir: Path, config: Config) -> None:
    """Record the resolved configuration of a run."""
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(workdir / CONFIG, configuration.flatten(config))


def read_config(workdir: Path) -> Config:
    """The configuration of a run.

    Raises:
        ValueError: no such file, or one that this version cannot read.
    """
    path = workdir / CONFIG
    try:
        return configuration.from_flat(json.loads(path.read_text()))
    except FileNotFoundError as error:
        raise ValueError(
            f"{workdir} is no workdir of a run: it has no {CONFIG}. Train first."
        ) from error
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def write_tasks(workdir: Path, specs: Mapping[str, EnvironmentSpec]) -> None:
    """Record the environment of each domain."""
    tasks = {
        domain: spec._asdict() | {"versions": dict(spec.versions)} for domain, spec in specs.items()
    }
    write_json(workdir / "tasks.json", tasks)


def read_tasks(workdir: Path) -> dict[str, EnvironmentSpec]:
    """The environment of each domain of a run: ``target`` and ``source`` (or ``source0`` ...)."""
    tasks = json.loads((workdir / "tasks.json").read_text())
    return {domain: EnvironmentSpec(**spec) for domain, spec in tasks.items()}


def source_domains(config: Config) -> list[str]:
    """Names of the source domains, in order."""
    return [source_name(index, config.source) for index in range(len(config.source))]


def agent_of(state: CoWorldState, config: Config, domain: str) -> AgentState:
    """The part of ``state`` that belongs to a domain."""
    if domain == "target":
        return state.target
    return state.sources[source_domains(config).index(domain)]


def restore_run(
    workdir: str | Path, *, best: bool = False
) -> tuple[Config, dict[str, EnvironmentSpec], CoWorld, CoWorldState, dict[str, Any]]:
    """Everything that a finished or running workdir knows, from its latest (or best) checkpoint.

    Returns:
        Configuration, environment of each domain, method, state, and the host's record.

    Raises:
        ValueError: no such run.
        FileNotFoundError: it has saved nothing yet.
    """
    workdir = Path(workdir)
    config = read_config(workdir)
    with Checkpointer(workdir / CHECKPOINTS, read_only=True) as checkpoints:
        step = checkpoints.best_step() if best else checkpoints.latest_step()
        if step is None:
            raise FileNotFoundError(
                f"{workdir} has no {'scored ' if best else ''}checkpoint yet: let it train longer."
            )
        specs = read_tasks(workdir)
        state_size = schedule.source_state_size(
            config, [specs[domain] for domain in source_domains(config)]
        )
        action_size = max(spec.action_size for spec in specs.values())
        method = make_coworld(config, action_size, 0, state_size)
        template = parallel.shapes_on_one_device(
            lambda: init_coworld(method, len(config.source), jax.random.key(0))
        )
        state, host = checkpoints.restore(template, step)
    return config, specs, method, state, host


def load_policy(
    workdir: str | Path, *, domain: str = "target", best: bool = False, explore: bool = False
) -> AgentPolicy:
    """The policy of a trained run: ``load_policy(workdir).episode(seed)(frame)`` is an action.

    The policy of a source that reads states takes a state, float32 ``[N]``, in the frame's place.

    Args:
        workdir: of `experiments.train`.
        domain: ``target``, ``source``, or ``source0`` ... for several sources.
        best: the checkpoint with the best evaluation, instead of the latest.
        explore: sample actions instead of taking their mode.

    Raises:
        ValueError: no such run, or no such domain in it.
        FileNotFoundError: the run has saved no checkpoint yet.
    """
    config, specs, method, state, _ = restore_run(workdir, best=best)
    if domain not in specs:
        raise ValueError(f"{workdir} has no domain {domain}: use one of {', '.join(specs)}.")
    return AgentPolicy(
        method.agent(domain),
        agent_of(state, config, domain),
        action_size=specs[domain].action_size,
        explore=explore,
    )
