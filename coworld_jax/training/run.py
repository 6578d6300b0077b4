"""One run: what it consists of, opened, restored and saved."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from coworld_jax import hosts, parallel
from coworld_jax.config import Config
from coworld_jax.data import Replay
from coworld_jax.data.episodes import row_bytes
from coworld_jax.envs import EnvironmentPool, EnvironmentSpec
from coworld_jax.evaluation.evaluator import Evaluator
from coworld_jax.fields import with_values
from coworld_jax.method import TARGET, Method, TrainState, init_train_state, make_key
from coworld_jax.records.checkpoint import Checkpointer, DamagedCheckpointError
from coworld_jax.records.files import (
    REPLAY,
    check_data,
    write_config,
    write_data,
    write_tasks,
)
from coworld_jax.records.metrics import MetricsWriter
from coworld_jax.records.progress import Progress
from coworld_jax.records.stopwatch import Stopwatch
from coworld_jax.training import plan as planning
from coworld_jax.training.collection import Collector
from coworld_jax.training.feeds import TargetFeed
from coworld_jax.training.learner import Learner
from coworld_jax.training.plan import Event, Rhythm, agenda
from coworld_jax.training.runtime import StopRequest, jit_once
from coworld_jax.training.start import (
    check_place,
    check_start,
    open_checkpoints,
    open_metrics,
    open_progress,
    own_workdir,
)
from coworld_jax.training.waiting import Patience
from coworld_jax.workdir import check_config, make_method, needed_domains, task_of


@dataclasses.dataclass
class Position:
    """Where a run is; checkpoints hold it."""

    phase: int = 0  # index into the plan
    done: int = 0  # updates of that phase
    updates: int = 0  # of the whole run
    env_steps: int = 0  # of the source simulators
    played: int = 0  # of them, those that have joined in this phase
    wall_time: float = 0.0  # seconds, over all starts of the run
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)  # of it, by purpose


class Ground(NamedTuple):
    """What runs that differ in their seeds have in common."""

    method: Method
    make: Callable[[Mapping[str, Any]], Method]  # with other `fields.numbers` in its settings
    pools: Mapping[str, EnvironmentPool]
    mesh: parallel.Mesh | None
    action_size: int  # of all batches
    feed: TargetFeed | None
    judging: Executor  # one thread for evaluations


@dataclasses.dataclass
class Run:
    """The live parts of one run."""

    config: Config
    workdir: Path
    ground: Ground
    collectors: Mapping[str, Collector]  # of the domains that are played
    learner: Learner
    evaluator: Evaluator
    checkpoints: Checkpointer
    metrics: MetricsWriter
    progress: Progress
    stopwatch: Stopwatch
    patience: Patience
    state: TrainState  # on every device, or on the first; see `own_state`
    position: Position
    started: float  # monotonic seconds; earlier starts of the run count
    remarks: set[str] = dataclasses.field(default_factory=set)  # made since this start
    failure: str = ""  # why it ended before its time, where other seeds go on

    @property
    def method(self) -> Method:
        """What is learnt."""
        return self.ground.method

    @property
    def pools(self) -> Mapping[str, EnvironmentPool]:
        """Simulators by domain."""
        return self.ground.pools

    @property
    def feed(self) -> TargetFeed | None:
        """The offline data, where the plan reads any."""
        return self.ground.feed

    @property
    def own_state(self) -> TrainState:
        """The state for programs of a single device; it must not be donated."""
        return parallel.on_host(self.state)

    @property
    def rhythm(self) -> Rhythm:
        """What the plan leaves open."""
        run = self.config.run
        return Rhythm(
            chunk=self.learner.largest_chunk,
            eval_every=run.eval_every,
            checkpoint_every=run.checkpoint_every,
            collection=planning.collections(self.config.schedule, _specs(self.pools)),
            ranking=planning.ranking_domain(self.method.plan, TARGET),
        )

    def events(self, *, full_length: bool = False) -> Iterator[Event]:
        """What is due from here on, in order; it follows the position as that advances.

        Args:
            full_length: all episodes have full length, so that there is nothing to follow.
        """
        phase, done = self.position.phase, self.position.done
        played = None if full_length else lambda: self.position.played
        return agenda(self.method.plan, self.rhythm, phase, done, played)

    def remark(self, sentences: Sequence[str]) -> None:
        """Show each sentence to the user, once."""
        for sentence in sentences:
            if sentence not in self.remarks:
                self.progress.message(sentence)
        self.remarks.update(sentences)

    def restore(self) -> None:
        """Go back to the latest checkpoint, or to the beginning; forget what lies after it.

        A checkpoint whose files are damaged is put aside, and the one before is taken: the updates
        since are made again, as they were.
        """
        host = self._restore_state()
        if host is None:
            for collector in self.collectors.values():
                collector.start_over()
            self.metrics.truncate(-1)
            return
        self.position = Position(**host["position"])
        self.stopwatch.seconds |= self.position.seconds
        self.evaluator.results = host["evaluations"]
        for domain, record in host["replays"].items():
            self.collectors[domain].resume(record)
        updates = self.position.updates
        self.metrics.truncate(updates, host["lines"])
        self.started = time.monotonic() - self.position.wall_time
        self.progress.message(f"Resumed {self.workdir} at update {updates}.")

    def _restore_state(self) -> dict[str, Any] | None:
        """Take the state of the latest good checkpoint; its host record, or None if there is none.

        Host 0 reads it for all hosts.
        """
        state, record = self._read_latest() if hosts.first() else (self.own_state, None)
        host = hosts.on_first(lambda: record)
        if host is not None:
            self.state = parallel.replicate(parallel.of_first(state), self.ground.mesh)
        return host

    def _read_latest(self) -> tuple[TrainState, dict[str, Any] | None]:
        """The state and the host record of the latest good checkpoint, where there is one.

        Raises:
            DamagedCheckpointError: there are checkpoints, but none is good.
        """
        damages: list[DamagedCheckpointError] = []
        for step in reversed(self.checkpoints.steps()):
            try:
                state, host = self.checkpoints.restore(self.own_state, step)
            except DamagedCheckpointError as error:
                damages.append(error)
                continue
            for damage in damages:
                aside = self.checkpoints.put_aside(damage.step)
                self.progress.message(
                    f"Checkpoint {damage.step} is damaged and was moved to {aside}; the run goes "
                    f"on from checkpoint {step}."
                )
            return state, host
        if damages:
            raise damages[0]
        return self.own_state, None

    def save(self) -> None:
        """Write a checkpoint."""
        self.position.wall_time = time.monotonic() - self.started
        self.position.seconds = dict(self.stopwatch.seconds)
        host = {
            "position": dataclasses.asdict(self.position),
            "evaluations": self.evaluator.results,
            "lines": self.metrics.lines,
            "replays": {name: collector.record() for name, collector in self.collectors.items()},
        }
        self.checkpoints.save(self.position.updates, self.own_state, host)

    def returns(self) -> dict[str, list[float]]:
        """Returns of all episodes of each domain that is played, in order."""
        return {domain: collector.replay.returns for domain, collector in self.collectors.items()}


def announce(progress: Progress, ground: Ground) -> None:
    """Say what the plan is, and where the data are kept."""
    progress.message(planning.describe(ground.method.plan))
    if ground.feed is not None:
        progress.message(ground.feed.announcement)


@contextmanager
def open_ground(config: Config, *, shares_batch: bool = True) -> Iterator[Ground]:
    """Start the simulators, make the method and load the data.

    Args:
        shares_batch: whether the devices share each batch; otherwise a fleet decides.

    Raises:
        ValueError: bad configuration or data, in one sentence.
    """
    with ExitStack() as resources:
        # Its thread ends after the pools, whose episodes it may be waiting for.
        judging = resources.enter_context(ThreadPoolExecutor(1, "evaluation"))
        pools = {
            domain: resources.enter_context(_open_pool(config, task_of(config, domain)))
            for domain in needed_domains(config)
        }
        specs = _specs(pools)
        method = make_method(config, specs)
        if config.run.eval_episodes == 0:
            method = method._replace(plan=planning.without_scores(method.plan))
        plan = planning.up_to(method.plan, config.run.last_phase)
        method = method._replace(plan=plan)
        planning.check_plan(method.plan, planning.collections(config.schedule, specs))
        run, mesh = config.run, None
        if shares_batch:
            mesh = parallel.make_mesh(run.devices, method.batch, run.mapping, method.shares)
        action_size = max(spec.action_size for spec in specs.values())
        feed = None
        if any(TARGET in phase.reads for phase in method.plan):
            feed = TargetFeed(config, specs[TARGET], method, action_size, mesh)
            resources.callback(feed.close)

        def make(numbers: Mapping[str, Any]) -> Method:
            settings = with_values(config.settings, numbers)
            return make_method(dataclasses.replace(config, settings=settings), specs)

        yield Ground(method, make, pools, mesh, action_size, feed, judging)


@contextmanager
def open_run(
    config: Config,
    workdir: Path,
    ground: Ground | None = None,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
) -> Iterator[Run]:
    """Start everything that a run consists of, and end it again.

    Args:
        ground: of the runs of several seeds, whose start was checked; started here if not given.
        progress: likewise.
        stop: asks the run to stop while it waits; nobody does if not given.

    Raises:
        ValueError: bad configuration or data, in one sentence, before anything is written but the
            lock; or other hosts have another configuration.
    """
    if ground is None:
        check_start(config)
    hosts.on_first(lambda: check_config(workdir, config))
    patience = Patience(StopRequest() if stop is None else stop, config.run.grace)
    with ExitStack() as resources:
        own_workdir(workdir, resources)
        if ground is None:
            ground = resources.enter_context(open_ground(config))
        method, pools, feed = ground.method, ground.pools, ground.feed
        if feed is not None:
            found = (feed.fingerprint, feed.left_out)
            hosts.on_first(lambda: check_data(workdir, config.data, *found))
        collectors = _collectors(config, workdir, ground, patience)
        hosts.on_first(lambda: check_place(workdir, config, method.plan))
        # All faults of the configuration are found by now: a corrected command may use the workdir.
        hosts.on_first(lambda: _record_start(config, workdir, ground))
        stopwatch = Stopwatch()
        if progress is None:
            updates = sum(phase.updates for phase in method.plan)
            progress = resources.enter_context(open_progress(updates))
        yield Run(
            config=config,
            workdir=workdir,
            ground=ground,
            collectors=collectors,
            learner=Learner(method, config.run, ground.mesh, feed, stopwatch, progress.message),
            evaluator=Evaluator(method, config, pools, workdir, ground.judging),
            checkpoints=resources.enter_context(open_checkpoints(config, workdir)),
            metrics=resources.enter_context(open_metrics(config, workdir)),
            progress=progress,
            stopwatch=stopwatch,
            patience=patience,
            state=_fresh_state(method, config.seed, ground.mesh),
            position=Position(),
            started=time.monotonic(),
        )


def _record_start(config: Config, workdir: Path, ground: Ground) -> None:
    """Write what the run is into its workdir."""
    write_config(workdir, config)
    write_tasks(workdir, {domain: pool.spec for domain, pool in ground.pools.items()})
    if ground.feed is not None:
        write_data(workdir, ground.feed.fingerprint, ground.feed.left_out)


def _open_pool(config: Config, task: str) -> EnvironmentPool:
    return EnvironmentPool(
        task,
        profile=config.run.profile,
        workers=config.run.workers,
        episode_steps=config.schedule.episode_steps or None,
    )


def _specs(pools: Mapping[str, EnvironmentPool]) -> dict[str, EnvironmentSpec]:
    return {domain: pool.spec for domain, pool in pools.items()}


def _collectors(
    config: Config, workdir: Path, ground: Ground, patience: Patience
) -> dict[str, Collector]:
    """A replay and its collector for each domain that the plan plays.

    Raises:
        ValueError: an episode is shorter than a chunk, or the replay does not fit into memory.
    """
    method, pools, mesh = ground.method, ground.pools, ground.mesh
    collectors = {}
    for domain in dict.fromkeys(phase.plays for phase in method.plan if phase.plays):
        spec = pools[domain].spec
        rows = spec.episode_steps + 1
        if rows < method.length:
            raise ValueError(
                f"learning.length is {method.length}, but an episode of the source has {rows} "
                "rows: choose a length of at most that."
            )
        replay = Replay(
            workdir / REPLAY / domain,
            slots=replay_slots(config, ground, domain),
            rows=rows,
            action_size=ground.action_size,
            minimum_rows=method.length,
            state_size=_state_size(ground, domain),
            mesh=mesh,
        )
        collectors[domain] = Collector(pools[domain], replay, config.seed, domain, patience)
    return collectors


def replay_slots(config: Config, ground: Ground, domain: str) -> int:
    """Episodes that the replay of a domain holds: all that the plan plays, up to the limit."""
    steps = ground.pools[domain].spec.episode_steps
    planned = planning.planned_episodes(ground.method.plan, domain, steps)
    return min(config.schedule.replay_episodes, planned)


def replay_bytes(config: Config, ground: Ground) -> int:
    """Bytes of the replays of one seed."""
    plan, total = ground.method.plan, 0
    for domain in {phase.plays for phase in plan if phase.plays}:
        spec = ground.pools[domain].spec
        rows = replay_slots(config, ground, domain) * (spec.episode_steps + 1)
        total += rows * row_bytes(ground.action_size, _state_size(ground, domain))
    return total


def _state_size(ground: Ground, domain: str) -> int:
    """Numbers of a state that the replay of a domain keeps: none for a player of images."""
    reads = ground.method.players[domain].reads
    return ground.pools[domain].spec.state_size if reads == "state" else 0


def _fresh_state(method: Method, seed: int, mesh: parallel.Mesh | None) -> TrainState:
    init = jit_once(lambda key: init_train_state(method, key))
    return parallel.replicate(init(make_key(seed)), mesh)
