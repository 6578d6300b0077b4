"""Runs that differ in their seeds, carried out together by programs of their own (`device`).

Each run has its workdir, replay, metrics, checkpoints and evaluations, as a run by itself does; one
run alone is a fleet as well. Only the state and the replays' rows are held together, by a leading
axis of seeds. Runs may be at different places, for example after a kill in the middle of saving:
those that are behind go first, until all are at the same place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from coworld_jax import fields, hosts, parallel
from coworld_jax.config import Config
from coworld_jax.data import total_bytes
from coworld_jax.envs import JittableEnvironment
from coworld_jax.envs.jittable.pool import JittablePool
from coworld_jax.envs.jittable.rollout import Row, episode_of
from coworld_jax.method import TrainState
from coworld_jax.records.finite import NonFiniteError
from coworld_jax.training import runtime
from coworld_jax.training.device import (
    Carry,
    Common,
    Inputs,
    Played,
    World,
    empty_flight,
    over_seeds,
    stack,
    stretch_program,
)
from coworld_jax.training.embeddings import embeds_once
from coworld_jax.training.plan import Collect, Evaluate, Join, Learn
from coworld_jax.training.run import Ground, Run, replay_bytes
from coworld_jax.training.stretch import Block, Step, Stretch, fold, unfold
from coworld_jax.types import Episode

_NEEDS_NUMBERS = (
    jax.errors.ConcretizationTypeError,  # `if number`
    jax.errors.TracerArrayConversionError,  # `np.exp(number)`
    jax.errors.TracerIntegerConversionError,  # `range(number)`
)


def obstacle(ground: Ground, config: Config) -> str:
    """Why a run cannot be carried out by programs of its own; empty if it can."""
    for pool in ground.pools.values():
        if not isinstance(pool, JittablePool):
            return f"{pool.spec.task} is not jittable"
        if pool.environment.may_end:
            return f"episodes of {pool.spec.task} may end early"
    if ground.feed is not None and ground.feed.store is None:
        return "the dataset is streamed"
    if ground.mesh is not None:
        if not parallel.trains_on_cores():
            return "several devices share each batch (run.devices is not 1)"
        if hosts.count() > 1:
            return "several hosts share each batch"
        if config.run.mapping == "pmap":
            return "run.mapping is pmap"
        if not _fits(config, ground, ground.mesh.size):
            return "its replays do not fit into the memory once for each core (run.devices)"
    if embeds_once(ground.method.plan, config.run):
        return "the dataset is embedded once per phase"
    return ""


def all_jittable(ground: Ground) -> bool:
    """Whether every simulator of a run is a function of jax."""
    return all(isinstance(pool, JittablePool) for pool in ground.pools.values())


def chooses_device(config: Config, reason: str) -> bool:
    """Whether programs carry a run out, and not the host.

    Args:
        reason: why they cannot; empty if they can.

    Raises:
        ValueError: ``run.program`` asks for them, but they cannot.
    """
    if config.run.program == "device" and reason:
        raise ValueError(
            f"run.program is device, but the host must carry this run out, because {reason}: "
            "change that, or use --config.run.program=auto."
        )
    return not reason and config.run.program != "host"


class Fleet:
    """Carries stretches out for several runs of one plan.

    Args:
        runs: restored, or at their beginning; see `obstacle`.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = runs
        first = runs[0]
        environments = {}
        for domain, pool in first.pools.items():
            assert isinstance(pool, JittablePool)
            environments[domain] = pool.environment
        slots = {domain: collector.replay.slots for domain, collector in first.collectors.items()}
        self._seed_mesh, self._batch_mesh = _meshes(runs)
        self._mesh = self._seed_mesh or self._batch_mesh
        axis_name = None if self._batch_mesh is None else parallel.AXIS
        self._world = World(first.method, first.ground.make, environments, slots, axis_name)
        data = None if first.feed is None else first.feed.store
        self._data = parallel.lend(data, self._mesh)
        self._carry: Carry | None = None  # None while the runs hold their own parts
        self._programs: dict[Any, Any] = {}

    def carry_out(self, stretch: Stretch, part: Sequence[bool]) -> list[Iterator[Any]]:
        """The work of a stretch, and the episodes of the evaluations that it is followed by.

        Args:
            stretch: the next one of the runs that take part.
            part: whether each run does.

        Returns:
            For each run one result per step of the work, then one per evaluation: episodes of a
            collection, metrics of updates ``[K]``, None for a `Join`, episodes of an evaluation.
            Nothing for a run that takes no part. A result that is not finite raises a
            NonFiniteError when it is asked for.
        """
        carry = self._placed(self._take_over())
        blocks = fold(stretch.work)
        domains = tuple(e.domain for e in stretch.then if isinstance(e, Evaluate))
        taking = [run for run, takes in zip(self.runs, part, strict=True) if takes]
        inputs = _stack_inputs([_inputs(run, stretch, blocks, domains) for run in self.runs])
        common = Common(self._data, jnp.int32(_done(stretch.work)))
        inputs, taking_part = self._placed((inputs, jnp.array(part)))
        arguments = (carry, parallel.replicate(common, self._mesh), inputs, taking_part)
        del carry  # the program overwrites it
        program = self._program(stretch, blocks, domains, arguments)
        with _measured(taking, "update"):
            self._carry, played = program(*arguments)
            parallel.check_equal(self._carry.learnt)
            self._share_state()
            played = jax.tree.map(np.asarray, self._gathered(played))
        return [
            _results(self._world, _at(played, i), blocks, stretch) if takes else iter(())
            for i, takes in enumerate(part)
        ]

    def _placed(self, tree: Any) -> Any:
        """A tree ``[seeds, ...]`` on the devices that train the seeds."""
        if self._batch_mesh is not None:
            return parallel.replicate(tree, self._batch_mesh)
        return parallel.share_seeds(tree, self._seed_mesh)

    def _gathered(self, tree: Any) -> Any:
        """What a program gave for trees of `_placed`, whole on this host."""
        if self._batch_mesh is not None:
            return parallel.on_host(tree)
        return parallel.of_all_seeds(tree)

    def hand_back(self) -> None:
        """Give each run its state and its replays again."""
        if self._carry is None:
            return
        stores = self._gathered(self._carry.stores)
        for index, run in enumerate(self.runs):
            for domain, collector in run.collectors.items():
                collector.replay.take_back(_one_seed(stores[domain], index))
        self._carry = None

    def _share_state(self) -> None:
        """Give each run a copy of its state, for checkpoints and pictures."""
        assert self._carry is not None
        whole = self._gathered((self._carry.learnt, self._carry.updates))
        for index, run in enumerate(self.runs):
            learnt, updates = _one_seed(whole, index)
            run.state = TrainState(learnt, run.state.clock._replace(updates=updates))

    def _take_over(self) -> Carry:
        """What the runs hold, by seeds; theirs is released."""
        if self._carry is not None:
            return self._carry
        domains = self._world.slots
        stores, written, flight = {}, {}, {}
        for domain in domains:
            collectors = [run.collectors[domain] for run in self.runs]
            stores[domain] = stack([collector.replay.hand_over() for collector in collectors])
            written[domain] = jnp.array([c.replay.usable for c in collectors], jnp.int32)
            together = self.runs[0].config.schedule.episodes_per_collection
            empty = empty_flight(self._world, domain, together)
            flight[domain] = stack([_rows(collector.flown(), empty) for collector in collectors])
        learnt = stack([run.state.learnt for run in self.runs])
        updates = stack([run.state.clock.updates for run in self.runs])
        return Carry(learnt, updates, stores, written, flight)

    def _program(
        self,
        stretch: Stretch,
        blocks: tuple[Block, ...],
        domains: tuple[str, ...],
        arguments: Any,
    ) -> Any:
        """The compiled program of a stretch."""
        if (blocks, domains) not in self._programs:
            phase = stretch.work[0].phase.name
            self.runs[0].progress.message(
                f"Compiling {phase}, {_updates(stretch.work)} updates in a call."
            )
            with _measured(self.runs, "compile"):
                program = over_seeds(
                    stretch_program(self._world, blocks),
                    vectorised=not parallel.trains_on_cores(),
                    mesh=self._seed_mesh,
                )
                if self._batch_mesh is not None:
                    program = parallel.share_batches(program, self._batch_mesh)
                jitted = parallel.jit_donating(program, self._seed_mesh or self._batch_mesh)
                lowered = _lower(jitted, arguments, self.runs[0].config.method)
                self._programs[blocks, domains] = lowered.compile()
                runtime.return_free_memory()
        return self._programs[blocks, domains]


def _meshes(runs: Sequence[Run]) -> tuple[parallel.Mesh | None, parallel.Mesh | None]:
    """Devices that share the seeds, and devices that share each batch of every seed.

    At most one of them is not None. Cores share the batches where no two can share the seeds.
    """
    first, seeds = runs[0], len(runs)
    ground, method, devices = first.ground, first.method, first.config.run.devices
    if ground.mesh is not None:
        return None, ground.mesh
    mesh = parallel.make_seed_mesh(devices, seeds)
    if mesh is None and parallel.trains_on_cores() and hosts.count() == 1:
        most = parallel.most_cores(devices, method.batch, method.shares)
        cores = parallel.make_mesh(most, method.batch)
        if cores is not None and _fits(first.config, ground, seeds * cores.size):
            return None, cores
    idle = parallel.idle_devices(devices, seeds)
    if idle:
        first.progress.message(idle)
    return mesh, None


def _fits(config: Config, ground: Ground, copies: int) -> bool:
    """Whether the replays of a seed fit so many times into half of all memory.

    Not into what is free just now: a resumed run must choose the same programs.
    """
    return copies * replay_bytes(config, ground) <= total_bytes() // 2


def _inputs(run: Run, stretch: Stretch, blocks: Sequence[Block], domains: Sequence[str]) -> Inputs:
    """The settings of a run, and the seeds of everything that it plays in a stretch."""
    together = run.config.schedule.episodes_per_collection
    upcoming = {
        domain: collector.replay.appended + len(collector.flown())
        for domain, collector in run.collectors.items()
    }
    found: list[list[list[list[int]]]] = [[[] for _ in range(b.repeats)] for b in blocks]
    for number, repetition, _, step in unfold(blocks):
        if isinstance(step, Collect):
            collector, first = run.collectors[step.phase.plays], upcoming[step.phase.plays]
            numbers = range(first, first + together)
            found[number][repetition].append([collector.seed_of(index) for index in numbers])
            upcoming[step.phase.plays] += together
    collections = tuple(
        jnp.asarray(np.array(seeds, np.uint32).reshape(block.repeats, -1, together))
        for seeds, block in zip(found, blocks, strict=True)
    )
    updates = run.position.updates + _updates(stretch.work)
    evaluations = {
        domain: jnp.asarray(np.array(run.evaluator.seeds(domain, updates), np.uint32))
        for domain in domains
    }
    root = jax.random.key_data(run.state.clock.key)
    numbers = jax.tree.map(jnp.asarray, fields.numbers(run.config.settings))
    return Inputs(numbers, root, collections, evaluations)


def _stack_inputs(each: Sequence[Inputs]) -> Inputs:
    """The inputs of all runs, by seeds."""
    numbers, root = stack([(own.numbers, own.root) for own in each])

    def stack_seeds(*leaves: jax.Array) -> jax.Array:
        return jnp.asarray(np.stack(leaves))  # a jax program would be compiled for each stretch

    seeds = [(own.collections, own.evaluations) for own in each]
    return Inputs(numbers, root, *jax.tree.map(stack_seeds, *seeds))


def _results(
    world: World, played: Played, blocks: Sequence[Block], stretch: Stretch
) -> Iterator[Any]:
    """Results of one run, in the order of the events."""
    for number, repetition, place, step in unfold(blocks):
        own = _at(played.blocks[number][place], repetition)
        match step:
            case Collect(phase):
                yield _episodes(world.environments[phase.plays], own)
            case Learn():
                yield own
            case Join():
                yield None
    for event in stretch.then:
        if isinstance(event, Evaluate):
            yield _episodes(world.environments[event.domain], played.evaluations[event.domain])


def _episodes(environment: JittableEnvironment, rows: Row) -> list[Episode]:
    """Rows ``[R, E, ...]`` as episodes.

    Raises:
        NonFiniteError: an action is not finite.
        ValueError: an episode ended early, or the environment gave what it must not.
    """
    if not np.isfinite(rows.action).all():
        task = environment.spec.task
        raise NonFiniteError(f"The actions of the policy in {task} are no longer finite.")
    if not rows.discount.all():
        raise ValueError(
            f"An episode of {environment.spec.task} ended early, although its environment says "
            "may_end=False: leave that out."
        )
    return [episode_of(environment, rows, index) for index in range(rows.reward.shape[1])]


def _lower(jitted: jax.stages.Wrapped, arguments: Any, method: str) -> jax.stages.Lowered:
    """A program traced for its arguments, the numbers of the settings among them.

    Raises:
        ValueError: the method does not let a number be an argument.
    """
    try:
        return jitted.lower(*arguments)
    except _NEEDS_NUMBERS as error:
        raise ValueError(
            f"The method {method} needs the value of a number among its settings while it is "
            "compiled: compute with jax.numpy, or declare the field with fields.shaping, or use "
            "--config.run.program=host."
        ) from error


def _at(tree: Any, index: int) -> Any:
    """Entry ``index`` of the leading axis of every leaf."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


@jax.jit
def _one_seed(tree: Any, index: int) -> Any:
    """One seed's part of device arrays, by one program for all seeds; `_at` is for NumPy arrays."""
    take = partial(jax.lax.dynamic_index_in_dim, index=index, axis=0, keepdims=False)
    return jax.tree.map(take, tree)


def _done(work: Sequence[Step]) -> int:
    """Updates of the phase before a stretch."""
    return next(step.done for step in work if not isinstance(step, Join))


def _updates(work: Sequence[Step]) -> int:
    """Updates of a stretch."""
    return sum(step.updates for step in work if isinstance(step, Learn))


def _rows(episodes: Sequence[Episode], empty: Row) -> Row:
    """Episodes of full length as rows ``[R, E, ...]``, or ``empty`` where there are none."""
    if not episodes:
        return empty
    fields = {
        name: np.stack([getattr(episode, name) for episode in episodes], axis=1)
        for name in ("image", "action", "reward", "discount")
    }
    extras = {
        name: np.stack([episode.extras[name] for episode in episodes], axis=1)
        for name in ("state", "success")
        if name in episodes[0].extras
    }
    return empty._replace(**jax.tree.map(jnp.asarray, fields | extras))


@contextmanager
def _measured(runs: Sequence[Run], purpose: str) -> Iterator[None]:
    """Each run's stopwatch measures what they do together."""
    with ExitStack() as stack:
        for run in runs:
            stack.enter_context(run.stopwatch.measure(purpose))
        yield
