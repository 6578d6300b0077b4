"""The training loop: the events of a plan, one after another.

What happens when is a function of the plan, of update counts and of the env_steps that were played
(`plan.agenda`). Chunk length, workers, devices, feeds and interruptions never change it. The host
carries out one event after another; where simulators are functions of jax, one program carries out
all play and updates up to the next evaluation or checkpoint (`fleet`), for one seed or for many.

From the command to the jitted step there are three hops: `train` opens the run and walks through
its events, `events.handle` carries one out, and `learner` calls the compiled program of a phase.
Where one program plays as well, they are `together.carry_out_together`, which walks through
stretches of events, `fleet.Fleet.carry_out`, and the program of a stretch (`device`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from coworld_jax import hosts
from coworld_jax.config import Config
from coworld_jax.training import report, runtime
from coworld_jax.training.events import handle, leave, stop_early
from coworld_jax.training.fleet import all_jittable, chooses_device, obstacle
from coworld_jax.training.plan import Collect, Learn
from coworld_jax.training.run import Run, announce, open_run
from coworld_jax.training.seeds import train_seeds
from coworld_jax.training.together import carry_out_together
from coworld_jax.training.waiting import Stopped

# Whether a run may end early, by the returns of all episodes of each source's domain so far.
Until = Callable[[Mapping[str, Sequence[float]]], bool]


def train(
    config: Config,
    workdir: str | Path,
    until: Until | None = None,
    stop: runtime.StopRequest | None = None,
) -> dict[str, Any] | None:
    """Carry a run out, or go on with it where its last checkpoint lies.

    Several hosts (`hosts.start`) call this alike. Host 0 owns the workdir.

    Args:
        config: see `config.Config`; checked before anything starts.
        workdir: of this run alone; it holds everything that the run writes. Of ``run.seeds`` seeds
            each has a folder in it.
        until: asked between updates, and after the last; once it says yes, the run stops.
        stop: entered already; asks the run to stop. One is entered here if not given.

    Returns:
        The summary, which is also in ``workdir/summary.json``; None if ``until``, SIGTERM or SIGINT
        stopped the run, which leaves a checkpoint.

    Raises:
        ValueError: bad configuration or data, in one sentence.
        NonFiniteError: with the name of the first bad quantity; the last checkpoint is kept. Of
            several seeds one may fail, which is reported; the others go on.
        envs.WorkerFailed: a simulator died again and again.
    """
    with runtime.StopRequest() if stop is None else contextlib.nullcontext(stop) as stop:
        if config.run.seeds > 1:
            if until is not None:
                raise ValueError("A run that may end early has one seed: leave run.seeds at 1.")
            return train_seeds(config, Path(workdir), stop, _train_one)
        return _train_one(config, Path(workdir), stop, until)


def _train_one(
    config: Config, workdir: Path, stop: runtime.StopRequest, until: Until | None = None
) -> dict[str, Any] | None:
    """`train` for one seed."""
    with open_run(config, workdir, stop=stop) as run:
        reason = obstacle(run.ground, config)
        if not reason and until is not None:
            reason = "it may end early"
        by_device = chooses_device(config, reason)
        announce(run.progress, run.ground)
        if reason and all_jittable(run.ground):
            run.progress.message(f"The host carries the run out step by step, because {reason}.")
        run.restore()
        finished = carry_out_together([run], stop) if by_device else carry_out(run, stop, until)
        return report.summarise(run) if finished else None


def carry_out(run: Run, stop: runtime.StopRequest, until: Until | None) -> bool:
    """The events of a run, by the host; whether all have been carried out."""

    def ends() -> bool:
        return until is not None and hosts.any_of(until(run.returns()))

    try:
        for event in run.events():
            if isinstance(event, Collect | Learn) and (stop.agreed() or ends()):
                stop_early(run)
                return False
            handle(run, event)
    except Stopped:
        leave(run)
        return False
    return not ends()
