"""Whether the runs of a study consist of whole episodes, asked before anything is started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from coworld_jax.config import Config
from coworld_jax.envs import EnvironmentSpec, Request
from coworld_jax.envs.suites import check_request, find_jittable
from coworld_jax.method import TARGET, Phase
from coworld_jax.training.plan import check_plan, collections
from coworld_jax.workdir import make_method, needed_domains, task_of
from experiments.studying.study import Run


def check_lengths(runs: Sequence[Run]) -> None:
    """Make sure that every phase that plays consists of whole collections.

    A run on a simulator is left out, since only the simulator knows how long its episodes are. A
    run without a source is left out as well, since no phase of it plays.

    Raises:
        ValueError: a phase does not, with the pair and the arm.
    """
    for run in {(run.pair, run.arm): run for run in runs}.values():
        known = None if reads_only_the_target(run) else known_plan(run)
        if known is None:
            continue
        plan, specs = known
        try:
            check_plan(plan, collections(run.config.schedule, specs))
        except ValueError as error:
            raise ValueError(f"Arm {run.arm} on {run.pair}: {error}") from None


def _awaiting_data(run: Run) -> Config:
    return replace(run.config, data="to be collected")


def reads_only_the_target(run: Run) -> bool:
    """Whether all updates of a run are the target's."""
    return list(needed_domains(_awaiting_data(run))) == [TARGET]


def known_plan(run: Run) -> tuple[Sequence[Phase], dict[str, EnvironmentSpec]] | None:
    """The phases of a run and its environments by domain; None where only a simulator knows."""
    config, specs = _awaiting_data(run), {}
    for domain in needed_domains(config):
        spec = _spec(run, task_of(config, domain))
        if spec is None:
            return None
        specs[domain] = spec
    return make_method(config, specs).plan, specs


def _spec(run: Run, task: str) -> EnvironmentSpec | None:
    """What an environment is like; None where only its simulator knows."""
    make = find_jittable(task)
    if make is None:
        return None
    steps = run.config.schedule.episode_steps or None
    return make(check_request(Request(task, run.config.run.profile, 64, None, steps))).spec
