"""Whether the runs of a study consist of whole episodes, asked before anything is started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from coworld_jax.envs import EnvironmentSpec, Request
from coworld_jax.envs.suites import check_request, find_jittable
from coworld_jax.method import TARGET
from coworld_jax.training.plan import check_plan, collections
from coworld_jax.workdir import make_method, needed_domains, task_of
from experiments.studying.study import Run


def check_lengths(runs: Sequence[Run]) -> None:
    """Make sure that every phase that plays consists of whole collections.

    A run on a simulator is not looked at, since only the simulator knows its episodes; nor is a run
    without a source, which plays nothing.

    Raises:
        ValueError: a phase does not, with the pair and the arm.
    """
    for run in {(run.pair, run.arm): run for run in runs}.values():
        config = replace(run.config, data="to be collected")
        tasks = {domain: task_of(config, domain) for domain in needed_domains(config)}
        if list(tasks) == [TARGET]:
            continue
        specs = {domain: _spec(run, task) for domain, task in tasks.items()}
        known = {domain: spec for domain, spec in specs.items() if spec is not None}
        if len(known) < len(tasks):
            continue
        plan = make_method(config, known).plan
        try:
            check_plan(plan, collections(config.schedule, known))
        except ValueError as error:
            raise ValueError(f"Arm {run.arm} on {run.pair}: {error}") from None


def _spec(run: Run, task: str) -> EnvironmentSpec | None:
    """What an environment is like; None where only its simulator knows."""
    make = find_jittable(task)
    if make is None:
        return None
    steps = run.config.schedule.episode_steps or None
    return make(check_request(Request(task, run.config.run.profile, 64, None, steps))).spec
