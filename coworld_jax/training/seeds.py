"""Many seeds of one run: ``run.seeds`` of them, from ``seed`` on.

Each seed has a folder of the workdir, ``seed_3``, which is the workdir of a run by itself: it can
be evaluated, loaded, drawn and carried on alone. Where simulators are functions of jax one program
trains all seeds (`training.device`); elsewhere one seed follows another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from coworld_jax import hosts, parallel
from coworld_jax.config import Config
from coworld_jax.data import available_bytes, format_bytes, read_json, write_json
from coworld_jax.envs import EnvironmentSpec
from coworld_jax.evaluation.comparison import comparison_figure, read_curve
from coworld_jax.evaluation.evaluator import PICTURES
from coworld_jax.records.files import (
    FAILURES,
    SUMMARY,
    read_failures,
    seed_directory,
    write_config,
    write_tasks,
)
from coworld_jax.records.finite import NonFiniteError
from coworld_jax.records.progress import SeedProgress
from coworld_jax.training import report, runtime
from coworld_jax.training.fleet import chooses_device, obstacle
from coworld_jax.training.run import (
    Ground,
    Run,
    announce,
    open_ground,
    open_run,
    replay_bytes,
)
from coworld_jax.training.start import check_start, open_progress, own_workdir
from coworld_jax.training.together import carry_out_together
from coworld_jax.workdir import check_config

# Trains one seed: its configuration, its folder, and what asks it to stop.
TrainOne = Callable[[Config, Path, runtime.StopRequest], dict[str, Any] | None]


def train_seeds(
    config: Config, workdir: Path, stop: runtime.StopRequest, train_one: TrainOne
) -> dict[str, Any] | None:
    """Train all seeds, or go on with them.

    Args:
        config: of all; ``run.seeds`` is at least 2.
        workdir: of all; each seed has its `seed_directory`.
        stop: asks the runs to stop.
        train_one: trains a seed by itself.

    Returns:
        A summary over the seeds, which is also in ``workdir/summary.json``; None if stopped.

    Raises:
        ValueError: bad configuration or data, in one sentence.
        NonFiniteError: every seed has failed.
    """
    check_start(config)
    hosts.on_first(lambda: check_config(workdir, config))
    with ExitStack() as resources:
        own_workdir(workdir, resources)
        failures = hosts.on_first(lambda: read_failures(workdir))
        ones = {
            seed: replace(config, seed=seed, run=replace(config.run, seeds=1))
            for seed in range(config.seed, config.seed + config.run.seeds)
            if str(seed) not in failures
        }
        if not ones:
            raise NonFiniteError(f"All seeds have failed: {'; '.join(failures.values())}")
        with open_ground(config, shares_batch=False) as ground:
            by_device = chooses_device(config, obstacle(ground, config))
            if by_device:
                parallel.check_seeds(config.run.seeds)
                _check_memory(config, ground, len(ones))
            specs = {name: pool.spec for name, pool in ground.pools.items()}
            hosts.on_first(lambda: _record_start(config, workdir, specs))
            if by_device:
                summaries = _train_together(ones, workdir, ground, stop, failures)
        del ground  # and with it the data, which each seed now loads for itself
        if not by_device:
            summaries = _train_in_turn(ones, workdir, stop, failures, train_one)
    if summaries is None:
        return None
    if not summaries:
        raise NonFiniteError(f"All seeds have failed: {'; '.join(failures.values())}")
    times = [own["wall_time"] for own in summaries.values()]
    seconds = max(times) if by_device else sum(times)
    return hosts.on_first(lambda: _summarise(config, workdir, summaries, failures, seconds))


def _record_start(config: Config, workdir: Path, specs: Mapping[str, EnvironmentSpec]) -> None:
    """Write what the runs are into their workdir."""
    write_config(workdir, config)
    write_tasks(workdir, specs)


def _check_memory(config: Config, ground: Ground, seeds: int) -> None:
    """Make sure that the replays of all seeds fit, twice while they are put together.

    Raises:
        ValueError: they do not.
    """
    need = 2 * seeds * replay_bytes(config, ground)
    free = available_bytes()
    if need > free:
        raise ValueError(
            f"The replays of {seeds} seeds need {format_bytes(need)}, but {format_bytes(free)} of "
            "memory are free: lower run.seeds or schedule.replay_episodes."
        )


def _train_together(
    ones: Mapping[int, Config],
    workdir: Path,
    ground: Ground,
    stop: runtime.StopRequest,
    failures: dict[str, str],
) -> dict[int, dict[str, Any]] | None:
    """All seeds by common programs; their summaries by seed, None if they were stopped."""
    with ExitStack() as resources:
        updates = sum(phase.updates for phase in ground.method.plan) * len(ones)
        progress = resources.enter_context(open_progress(updates))
        announce(progress, ground)
        runs: dict[int, Run] = {}
        counts: dict[int, tuple[int, int]] = {}  # updates and env_steps of each seed
        ended: dict[int, dict[str, Any]] = {}  # summaries of seeds that had ended before
        for seed, config in ones.items():
            own = SeedProgress(progress, seed, counts)
            opened = open_run(config, seed_directory(workdir, seed), ground, own, stop)
            runs[seed] = resources.enter_context(opened)
            runs[seed].restore()
            position = runs[seed].position
            counts[seed] = (position.updates, position.env_steps)
            if runs[seed].position.phase == len(ground.method.plan):
                summary = hosts.on_first(partial(_summary_of, seed_directory(workdir, seed)))
                ended |= {} if summary is None else {seed: summary}

        def note_failure(run: Run) -> None:
            _note_failure(workdir, failures, run.config.seed, run.failure)

        if not carry_out_together(list(runs.values()), stop, note_failure):
            return None
        together = len(runs) - len(ended)
        return {
            seed: ended[seed] if seed in ended else report.summarise(run, together)
            for seed, run in runs.items()
            if not run.failure
        }


def _summary_of(workdir: Path) -> dict[str, Any] | None:
    """What a seed that has ended left behind; None if it was stopped before that."""
    path = workdir / SUMMARY
    return read_json(path) if path.exists() else None


def _train_in_turn(
    ones: Mapping[int, Config],
    workdir: Path,
    stop: runtime.StopRequest,
    failures: dict[str, str],
    train_one: TrainOne,
) -> dict[int, dict[str, Any]] | None:
    """One seed after another; their summaries by seed, None if they were stopped."""
    summaries = {}
    for seed, config in ones.items():
        try:
            summary = train_one(config, seed_directory(workdir, seed), stop)
        except NonFiniteError as error:
            _note_failure(workdir, failures, seed, str(error))
            continue
        if summary is None:
            return None
        summaries[seed] = summary
    return summaries


def _note_failure(workdir: Path, failures: dict[str, str], seed: int, sentence: str) -> None:
    failures[str(seed)] = sentence
    if hosts.first():
        write_json(workdir / FAILURES, failures)


def _summarise(
    config: Config,
    workdir: Path,
    summaries: Mapping[int, dict[str, Any]],
    failures: Mapping[str, str],
    seconds: float,
) -> dict[str, Any]:
    """Write and return the summary over seeds; its returns are the means of the seeds."""
    some = next(iter(summaries.values()))
    evaluations = {}
    for domain in some["evaluations"]:
        means = [own["evaluations"][domain]["return_mean"] for own in summaries.values()]
        evaluations[domain] = {
            "returns": means,
            "return_mean": float(np.mean(means)),
            "return_std": float(np.std(means)),
        }
    folders = [seed_directory(workdir, seed) for seed in summaries]
    drawn = {domain: workdir / PICTURES / f"{domain}_returns.png" for domain in evaluations}
    for domain, path in drawn.items():
        name = f"{len(folders)} seeds, mean ± std"
        comparison_figure(path, {name: read_curve(folders, domain)}, title=domain)
    summary = {
        "method": config.method,
        "seeds": list(summaries),
        "failures": dict(failures),
        "updates": some["updates"],
        "env_steps": some["env_steps"],
        "wall_time": seconds,
        "state_digests": {seed: own["state_digest"] for seed, own in summaries.items()},
        "pictures": [str(path) for path in drawn.values()],
        "evaluations": evaluations,
    }
    write_json(workdir / SUMMARY, summary)
    return summary
