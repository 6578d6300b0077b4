"""The run: phases in order, collection beside learning, evaluations, checkpoints, the summary.

What happens when is a function of the plan and of update counts alone. Chunk length, workers,
devices, feeds and interruptions never change it.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from coworld_jax import config as configuration
from coworld_jax import parallel, runtime, schedule
from coworld_jax.checkpoint import Checkpointer, state_digest
from coworld_jax.collection import Collector
from coworld_jax.config import Config
from coworld_jax.coworld import TARGET, CoWorldState, init_coworld, make_coworld, scale_source
from coworld_jax.data import Replay, write_json
from coworld_jax.envs import EnvironmentPool, RandomPolicy
from coworld_jax.evaluation.evaluator import Evaluator
from coworld_jax.feeds import TargetFeed
from coworld_jax.finite import NonFiniteError, check_finite
from coworld_jax.learner import Learner
from coworld_jax.metrics import MetricsWriter, Progress
from coworld_jax.policy import AgentPolicy
from coworld_jax.schedule import Phase
from coworld_jax.stopwatch import Stopwatch
from coworld_jax.workdir import (
    CHECKPOINTS,
    check_config,
    lock,
    source_domains,
    write_config,
    write_tasks,
)

# Metrics that the progress line shows, by the end of their names.
_SHOWN = {
    "model/image": "image",
    "model/state": "state",
    "model/kl": "kl",
    "critic/loss": "critic",
    "actor/return": "return",
}
# Whether a run may end early, by the returns of all episodes of each source's domain so far.
Until = Callable[[Mapping[str, Sequence[float]]], bool]
# It runs once: optimising it would take longer than that.
_init = jax.jit(
    init_coworld, static_argnums=(0, 1), compiler_options={"xla_backend_optimization_level": 0}
)


@dataclasses.dataclass
class Position:
    """Where a run is; checkpoints hold it."""

    phase: int = 0  # index into the plan
    done: int = 0  # updates of that phase
    updates: int = 0  # of the whole run
    env_steps: int = 0  # of the source simulators
    wall_time: float = 0.0  # seconds, over all starts of the run
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)  # of it, by purpose


def train(config: Config, workdir: str | Path, until: Until | None = None) -> dict[str, Any] | None:
    """Carry a run out, or go on with it where its last checkpoint lies.

    Args:
        config: see `config.Config`; checked before anything starts.
        workdir: of this run alone; it holds everything that the run writes.
        until: asked between updates, and after the last; once it says yes, the run stops.

    Returns:
        The summary, which is also in ``workdir/summary.json``; None if ``until``, SIGTERM or SIGINT
        stopped the run, which leaves a checkpoint.

    Raises:
        ValueError: bad configuration or data, in one sentence.
        NonFiniteError: with the name of the first bad quantity; the last checkpoint is kept.
        envs.WorkerFailed: a simulator died again and again.
    """
    configuration.check(config)
    workdir = Path(workdir)
    with ExitStack() as resources:
        stop = resources.enter_context(runtime.StopRequest())
        run = _Run(config, workdir, resources)
        run.resume()
        finished = run.carry_out(stop, until)
        return run.summarise() if finished else None


class _Run:
    """The live parts of one run."""

    def __init__(self, config: Config, workdir: Path, resources: ExitStack) -> None:
        self.config, self.workdir = config, workdir
        self.domains = source_domains(config)
        mesh = self.mesh = parallel.make_mesh(config.run.devices, config.learning.batch)
        check_config(workdir, config)
        resources.enter_context(lock(workdir))
        self.pools: dict[str, EnvironmentPool] = {}
        for domain, task in zip(self.domains, config.source, strict=True):
            self._open_pool(domain, task, resources)
        sources = [self.pools[domain].spec for domain in self.domains]
        episode_steps = schedule.shared_episode_steps(sources)
        state_size = schedule.source_state_size(config, sources)
        if episode_steps + 1 < config.learning.length:
            raise ValueError(
                f"learning.length is {config.learning.length}, but an episode of the source has "
                f"{episode_steps + 1} rows: choose a length of at most that."
            )
        self.phases = schedule.plan(config, episode_steps)
        if any(phase.learns == TARGET or phase.aligned for phase in self.phases):
            configuration.require_target(config)
            self._open_pool(TARGET, config.target, resources)
        specs = {domain: pool.spec for domain, pool in self.pools.items()}
        action_size = max(spec.action_size for spec in specs.values())
        self.interval = schedule.collection_interval(config, episode_steps)
        self.method = make_coworld(
            config, action_size, schedule.aligned_updates(self.phases), state_size
        )
        self.feed: TargetFeed | None = None
        if TARGET in specs:
            self.feed = TargetFeed(config, specs[TARGET], action_size, mesh)
            resources.callback(self.feed.close)
        self.state: CoWorldState = parallel.replicate(
            _init(self.method, len(self.domains), jax.random.key(config.seed)), mesh
        )
        self.collectors = [
            Collector(
                self.pools[domain],
                Replay(
                    workdir / "replay" / domain,
                    slots=schedule.planned_episodes(self.phases, index, episode_steps, config),
                    rows=episode_steps + 1,
                    action_size=action_size,
                    minimum_rows=config.learning.length,
                    state_size=state_size,
                    place=lambda store: parallel.replicate(store, mesh),
                ),
                config.seed,
                domain,
            )
            for index, domain in enumerate(self.domains)
        ]
        # Everything that can be wrong with the configuration has been found by now: a corrected
        # command may use the same workdir.
        write_config(workdir, config)
        write_tasks(workdir, specs)
        self.position = Position()
        self.stopwatch = Stopwatch()
        self.evaluator = Evaluator(self.method, config, self.pools, workdir)
        self.checkpoints = resources.enter_context(
            Checkpointer(workdir / CHECKPOINTS, keep=config.run.keep)
        )
        self.metrics = resources.enter_context(
            MetricsWriter(
                workdir,
                tensorboard=config.run.tensorboard,
                wandb_project=config.run.wandb_project,
                config=configuration.flatten(config),
            )
        )
        self.progress = Progress(sum(phase.updates for phase in self.phases))
        resources.callback(self.progress.close)
        self._started = time.monotonic()
        sizes = {domain: spec.action_size for domain, spec in specs.items()}
        self.learner = Learner(
            self.method, config, sizes, mesh, self.feed, self.stopwatch, self.progress.message
        )
        self.progress.message(schedule.describe(self.phases, config.coupling))
        if self.feed is not None:
            self.progress.message(self.feed.announcement)

    def _open_pool(self, domain: str, task: str, resources: ExitStack) -> None:
        """Start the simulators of a domain."""
        self.pools[domain] = resources.enter_context(
            EnvironmentPool(
                task,
                profile=self.config.run.profile,
                workers=self.config.run.workers,
                episode_steps=self.config.schedule.episode_steps or None,
            )
        )

    # --- where the run is -----------------------------------------------------------------------

    def resume(self) -> None:
        """Go back to the latest checkpoint, or to the beginning; forget what lies after it."""
        if self.checkpoints.latest_step() is None:
            for collector in self.collectors:
                collector.start_over()
            self.metrics.truncate(-1)
            return
        self.state, host = self.checkpoints.restore(self.state)
        self.position = Position(**host["position"])
        self.stopwatch.seconds |= self.position.seconds
        self.evaluator.results = host["evaluations"]
        for collector, record in zip(self.collectors, host["sources"], strict=True):
            collector.resume(record)
        self.metrics.truncate(self.position.updates)
        self._started = time.monotonic() - self.position.wall_time
        self.progress.message(f"Resumed {self.workdir} at update {self.position.updates}.")

    def _save(self, score: float | None) -> None:
        self.position.wall_time = time.monotonic() - self._started
        self.position.seconds = dict(self.stopwatch.seconds)
        host = {
            "position": dataclasses.asdict(self.position),
            "evaluations": self.evaluator.results,
            "sources": [collector.record() for collector in self.collectors],
        }
        self.checkpoints.save(self.position.updates, self.state, host, score)

    # --- the phases -----------------------------------------------------------------------------

    def carry_out(self, stop: runtime.StopRequest, until: Until | None) -> bool:
        """All phases that are left; False if the run was asked to stop."""
        replays = zip(self.domains, self.collectors, strict=True)
        returns = {domain: collector.replay.returns for domain, collector in replays}
        while self.position.phase < len(self.phases):
            phase = self.phases[self.position.phase]
            if phase.kind == "prefill":
                self._prefill(phase)
            while self.position.done < phase.updates:
                if stop.requested or (until is not None and until(returns)):
                    return self._stopped()
                self._advance(phase)
            self.position.phase += 1
            self.position.done = 0
        return until is None or not until(returns)

    def _stopped(self) -> bool:
        if self.position.updates:
            self._save(None)
            where = f"at update {self.position.updates}; the same command continues there."
        else:
            where = "before the first update; the same command starts again."
        self.progress.message(f"Stopped {where}")
        return False

    def _prefill(self, phase: Phase) -> None:
        domain = self.domains[phase.source]
        collector = self.collectors[phase.source]
        self.progress.message(f"Filling the replay of {domain} with random actions.")
        policy = RandomPolicy(self.pools[domain].spec.action_size)
        collector.begin(policy, self.config.schedule.prefill_episodes)
        self._collected(phase)
        if self.method.source.model.state_size:
            scaled = scale_source(self.state, phase.source, jnp.asarray(collector.replay.states()))
            self.state = parallel.replicate(scaled, self.mesh)

    def _advance(self, phase: Phase) -> None:
        """Up to the next update count at which something but an update happens."""
        position, config = self.position, self.config
        if schedule.due(phase, position.done, config, self.interval).collection:
            self._collect(phase)
        count = schedule.next_stop(
            phase, position.done, config, self.interval, self.learner.largest_chunk
        )
        self._learn(phase, count)
        position.done += count
        position.updates += count
        due = schedule.due(phase, position.done, config, self.interval)
        if due.collection:
            self._collected(phase)
        score = self._evaluate(phase) if due.evaluation else None
        if due.checkpoint or score is not None:
            with self.stopwatch.measure("checkpoint"):
                self._save(score)

    def _collect(self, phase: Phase) -> None:
        """Begin a collection by the source's present parameters, unless one goes on already."""
        collector, domain = self.collectors[phase.source], self.domains[phase.source]
        if not collector.idle:
            return
        with self.stopwatch.measure("collection"):
            policy = AgentPolicy(
                self.method.source,
                self.state.sources[phase.source],
                action_size=self.pools[domain].spec.action_size,
                explore=True,
            )
            collector.begin(policy, self.config.schedule.episodes_per_collection)

    def _collected(self, phase: Phase) -> None:
        """End the collection in flight: its episodes join the replay."""
        with self.stopwatch.measure("collection"):
            env_steps, returns = self.collectors[phase.source].finish()
        self.position.env_steps += env_steps
        if returns:
            name = f"{self.domains[phase.source]}/collection/return_mean"
            self.metrics.write(
                self.position.updates, self.position.env_steps, {name: float(np.mean(returns))}
            )

    def _learn(self, phase: Phase, count: int) -> None:
        """``count`` updates in one call, checked and logged."""
        replay = self.collectors[phase.source].replay.store
        before = self.stopwatch.spent("update")  # compilation is no part of it
        self.state, metrics = self.learner.learn(
            self.state, phase, count, self.position.updates, replay
        )
        rate = {"time/updates_per_second": count / (self.stopwatch.spent("update") - before)}
        with self.stopwatch.measure("logging"):
            self._log(phase, metrics, rate)

    def _log(self, phase: Phase, metrics: dict[str, np.ndarray], extra: dict[str, float]) -> None:
        """Refuse what is not finite; write the means of ``metrics``, each ``[updates]``."""
        position = self.position
        try:
            check_finite(metrics, position.updates)
        except NonFiniteError as error:
            raise NonFiniteError(
                f"{error} (phase {phase.name}); the last checkpoint in "
                f"{self.workdir / CHECKPOINTS} is kept. Try a lower learning rate, or another "
                "seed, in another workdir."
            ) from error
        means = {name: float(value.mean()) for name, value in metrics.items()} | extra
        updates = position.updates + len(next(iter(metrics.values())))
        self.metrics.write(updates, position.env_steps, means)
        domain = self._domain(phase)
        shown = {
            short: means[f"{domain}/{name}"]
            for name, short in _SHOWN.items()
            if f"{domain}/{name}" in means
        }
        self.progress.update(phase.name, updates, position.env_steps, shown)

    # --- evaluation -----------------------------------------------------------------------------

    def _domain(self, phase: Phase) -> str:
        """The domain whose agent a phase trains."""
        return TARGET if phase.learns == TARGET else self.domains[phase.source]

    def _evaluate(self, phase: Phase) -> float | None:
        """Score the domain that this phase trains; the others have not changed since their last.

        Returns:
            The return by which checkpoints compare: the target's, or the source's in a plan
            without a target; None for an evaluation that does not count.
        """
        position, domain = self.position, self._domain(phase)
        with self.stopwatch.measure("evaluation"):
            result = self.evaluator.score(
                domain, self.state, updates=position.updates, env_steps=position.env_steps
            )
            self.metrics.write(position.updates, position.env_steps, result.metrics(domain))
            self.evaluator.draw_returns(self._random_returns())
        self.progress.message(
            f"Evaluation of {domain} at update {position.updates}: return "
            f"{result.return_mean:.1f} ± {result.return_std:.1f} over {len(result.returns)} "
            f"episodes, value bias {result.value_bias:+.2f}."
        )
        shown = {f"{domain} score": result.return_mean}
        self.progress.update(phase.name, position.updates, position.env_steps, shown)
        counts = domain == TARGET or TARGET not in self.pools
        return result.return_mean if counts and phase.kind != "world_model" else None

    def _random_returns(self) -> dict[str, float]:
        """Mean return of the random episodes at the beginning of each source's replay."""
        random_episodes = self.config.schedule.prefill_episodes
        return {
            domain: float(np.mean(collector.replay.returns[:random_episodes]))
            for domain, collector in zip(self.domains, self.collectors, strict=True)
        }

    def _data_bytes(self) -> int:
        """Memory of the episodes: replays and offline dataset."""
        stores = [collector.replay.store for collector in self.collectors]
        if self.feed is not None and self.feed.store is not None:
            stores.append(self.feed.store)
        return sum(leaf.nbytes for leaf in jax.tree.leaves(stores))

    def summarise(self) -> dict[str, Any]:
        """Write and return ``summary.json``."""
        restarts = {domain: pool.restarts for domain, pool in self.pools.items()}
        summary = {
            "updates": self.position.updates,
            "env_steps": self.position.env_steps,
            "wall_time": self.position.wall_time,
            "seconds": self.position.seconds,
            "state_digest": state_digest(self.state),
            "worker_restarts": restarts,
            "peak_bytes": runtime.peak_bytes(),
            "data_bytes": self._data_bytes(),
            "pictures": self.evaluator.pictures(),
            "evaluations": self.evaluator.results,
        }
        write_json(self.workdir / "summary.json", summary)
        return summary
