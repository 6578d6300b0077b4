"""What happens at each event of a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from coworld_jax import hosts
from coworld_jax.envs import RandomPolicy
from coworld_jax.evaluation.scores import Marks
from coworld_jax.policy import AgentPolicy
from coworld_jax.records.files import CHECKPOINTS
from coworld_jax.records.finite import NonFiniteError, check_finite
from coworld_jax.training import report
from coworld_jax.training.plan import (
    Collect,
    Conclude,
    EndPhase,
    Evaluate,
    Event,
    Join,
    Learn,
    RandomPlay,
    Save,
    random_episodes,
)
from coworld_jax.training.remarks import imagines_beyond_ends
from coworld_jax.training.run import Run
from coworld_jax.types import Episode


def handle(run: Run, event: Event) -> None:
    """Carry an event out by this process and its workers."""
    match event:
        case RandomPlay():
            play_randomly(run, event)
        case Collect():
            collect(run, event)
        case Learn():
            learn(run, event)
        case Join():
            join(run, event.phase.plays)
        case Evaluate():
            evaluate(run, event.domain)
        case Conclude():
            conclude(run, event.domain)
        case Save():
            with run.stopwatch.measure("checkpoint"):
                run.save()
        case EndPhase():
            run.position.phase += 1
            run.position.done = run.position.played = 0


def stop_early(run: Run) -> None:
    """Save, and say where the run goes on.

    An evaluation under way is waited for. A later checkpoint no longer has its parameters, so it
    could not be repeated.
    """
    for domain in run.evaluator.under_way:
        run.progress.message(f"Stopping after the evaluation of {domain}.")
        conclude(run, domain)
    run.evaluator.finish()
    if run.position.updates:
        run.save()
        run.checkpoints.wait()
        where = f"at update {run.position.updates}; the same command continues there."
    else:
        where = "before the first update; the same command starts again."
    run.progress.message(f"Stopped {where}")


def leave(run: Run) -> None:
    """Say where a run goes on that did not wait for the episodes under way."""
    saved = [0, *run.checkpoints.steps()]
    where = f"goes on from checkpoint {saved[-1]}" if saved[-1] else "starts again"
    run.progress.message(
        f"Stopped at update {run.position.updates}, without waiting for the episodes under way; "
        f"the same command {where}."
    )


def play_randomly(run: Run, event: RandomPlay) -> None:
    """Fill a replay with random episodes.

    Raises:
        ValueError: none of them is as long as a chunk, so there is nothing to learn from.
    """
    domain = event.phase.plays
    run.progress.message(f"Filling the replay of {domain} with random actions.")
    spec = run.pools[domain].spec
    episodes = event.phase.env_steps // spec.episode_steps
    run.collectors[domain].begin(RandomPolicy(spec.action_size), episodes)
    join(run, domain, worthwhile=False)  # they can be played again, and nothing else is lost
    replay = run.collectors[domain].replay
    if replay.usable == 0:
        raise ValueError(
            f"None of the {episodes} random episodes of {spec.task} has the {run.method.length} "
            "rows of a chunk: lower learning.length, or let episodes of the task last longer."
        )


def collect(run: Run, event: Collect) -> None:
    """Begin a collection by the present parameters, unless one is under way already."""
    domain = event.phase.plays
    if not run.collectors[domain].idle:
        return
    with run.stopwatch.measure("collection"):
        spec = run.pools[domain].spec
        player, sizes = run.method.players[domain], (spec.image_size, spec.state_size)
        policy = AgentPolicy(player, run.own_state.learnt, *sizes, explore=True)
        run.collectors[domain].begin(policy, run.config.schedule.episodes_per_collection)


def join(run: Run, domain: str, *, worthwhile: bool = True) -> None:
    """End the collection under way: its episodes join the replay.

    Args:
        worthwhile: see `Patience.wait`.
    """
    with run.stopwatch.measure("collection"):
        collected = run.collectors[domain].finish(worthwhile=worthwhile)
    run.position.env_steps += collected.env_steps
    run.position.played += collected.env_steps
    if collected.returns:
        values = {f"{domain}/collection/return_mean": float(np.mean(collected.returns))}
        run.metrics.write(run.position.updates, run.position.env_steps, values)
    if collected.terminated:
        episodes = f"Episodes of {run.pools[domain].spec.task}"
        run.remark(imagines_beyond_ends(run.config, run.method, episodes))


def learn(run: Run, event: Learn) -> None:
    """Updates in one call, checked and logged."""
    stores = {domain: collector.replay.store for domain, collector in run.collectors.items()}
    before = run.stopwatch.spent("update")  # compilation is no part of it
    run.state, metrics = run.learner.learn(run.state, event, stores)
    record(run, event, metrics, run.stopwatch.spent("update") - before)


def record(run: Run, event: Learn, metrics: Mapping[str, np.ndarray], seconds: float) -> None:
    """Check and log updates that took so long.

    Args:
        metrics: each ``[updates]``.

    Raises:
        NonFiniteError: one of them is not finite.
    """
    with run.stopwatch.measure("logging"):
        _check_finite(run, event, metrics)
        run.position.done += event.updates
        run.position.updates += event.updates
        means = {name: float(value.mean()) for name, value in metrics.items()}
        rate = {"time/updates_per_second": event.updates / seconds}
        run.metrics.write(run.position.updates, run.position.env_steps, means | rate)
        report.show(run, event.phase.name, report.shown_metrics(means))


def _check_finite(run: Run, event: Learn, metrics: Mapping[str, np.ndarray]) -> None:
    """Refuse metrics that are not finite.

    Raises:
        NonFiniteError: the first of them, the phase, and what to do.
    """
    try:
        check_finite(metrics, run.position.updates)
    except NonFiniteError as error:
        raise NonFiniteError(
            f"{error} (phase {event.phase.name}); the last checkpoint in "
            f"{run.workdir / CHECKPOINTS} is kept. Try a lower learning rate, or another seed, in "
            "another workdir."
        ) from error


def evaluate(run: Run, domain: str, played: Sequence[Episode] | None = None) -> None:
    """Begin to score a domain by its present parameters.

    Args:
        played: the episodes, where they have been played already.
    """
    marks = Marks(run.position.updates, run.position.env_steps)
    with run.stopwatch.measure("evaluation"):
        run.evaluator.begin(domain, run.own_state.learnt, marks, played)


def conclude(run: Run, domain: str) -> None:
    """Wait for the evaluation of a domain, and record it under the updates at which it began."""
    with run.stopwatch.measure("evaluation"):
        run.patience.wait(run.evaluator.awaited(domain))
        result = run.evaluator.conclude(domain)
        if result is None:
            return
        run.metrics.write(*result.marks, result.metrics(domain))
        hosts.on_first(lambda: run.evaluator.draw_returns(_random_returns(run)))
    if domain == run.rhythm.ranking:
        run.checkpoints.rate(result.marks.updates, result.return_mean)
    run.progress.message(result.sentence(domain))
    run.progress.remember({f"{domain} score": result.return_mean})


def _random_returns(run: Run) -> dict[str, float]:
    """Mean return of the random episodes at the beginning of each replay."""
    means = {}
    for domain, collector in run.collectors.items():
        steps = run.pools[domain].spec.episode_steps
        count = random_episodes(run.method.plan, domain, steps)
        if count:
            means[domain] = float(np.mean(collector.replay.returns[:count]))
    return means
