"""A stretch of a run as one program: its play, its updates and the episodes of its evaluations.

It is the host's run, `training.loop`, in other words: the same episodes from the same seeds, the
same batches from the same keys, equal up to the rounding of one program against another. The host
is asked for nothing in between. That needs simulators that are functions of jax, whose episodes all
have full length, and a dataset that lies on the device.

Several seeds share a program. Whatever a run changes has a leading axis of seeds; the offline
dataset has none. An accelerator takes all seeds at once (`jax.vmap`). On a CPU that gains nothing,
since convolutions with other weights for each example lose their form: it takes one after another.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from coworld_jax.envs import JittableEnvironment
from coworld_jax.envs.jittable.rollout import Row, play
from coworld_jax.method import KEYS, TARGET, Clock, Method, State, TrainState, make_key
from coworld_jax.policy import Acting
from coworld_jax.store import EpisodeStore, write_episode
from coworld_jax.training.plan import Collect, Join, Learn
from coworld_jax.training.scan import Shape, run_updates
from coworld_jax.training.stretch import Block, Step
from coworld_jax.types import Batch

Tree = TypeVar("Tree")


class World(NamedTuple):
    """What a program is built from, beside the steps."""

    method: Method
    make: Callable[[Mapping[str, jax.Array]], Method]  # from the `fields.numbers` of its settings
    environments: Mapping[str, JittableEnvironment]  # by domain
    slots: Mapping[str, int]  # of each replay


class Carry(NamedTuple):
    """What a run changes."""

    learnt: State  # of the method
    updates: jax.Array  # int32 [], of the whole run
    stores: dict[str, EpisodeStore]  # replays, by domain
    written: dict[str, jax.Array]  # int32 [], episodes that each replay was given so far
    flight: dict[str, Row]  # [R, E, ...], the collection of each domain that has not joined
    done: jax.Array  # int32 [], updates of the phase


class Inputs(NamedTuple):
    """What a run does not change; seeds of episodes are uint32."""

    numbers: dict[str, jax.Array]  # settings, each []; see `fields.numbers`
    root: jax.Array  # words of the key of the updates, uint32 [2]
    collections: tuple[jax.Array, ...]  # for each block [repeats, its collections, E]
    evaluations: dict[str, jax.Array]  # for each domain that is scored [N]


class Played(NamedTuple):
    """What the host is told of a stretch."""

    # For each block a result per step, [repeats, ...]: rows of a collection, metrics of updates.
    blocks: tuple[tuple[Any, ...], ...]
    evaluations: dict[str, Row]  # [R, N, ...]


Program = Callable[[Carry, EpisodeStore | None, Inputs], tuple[Carry, Played]]


def stretch_program(world: World, blocks: Sequence[Block]) -> Program:
    """The program of one seed: ``(carry, offline dataset, inputs) -> (carry, played)``.

    Args:
        world: see there.
        blocks: of the stretch; domains to score are those that the inputs name.
    """

    def program(carry: Carry, data: EpisodeStore | None, inputs: Inputs) -> tuple[Carry, Played]:
        results = []
        own = world._replace(method=world.make(inputs.numbers))
        root = jax.random.wrap_key_data(inputs.root, impl=KEYS)
        for block, numbers in zip(blocks, inputs.collections, strict=True):
            turn = functools.partial(_carry_out, own, block.steps, data, root)
            carry, result = jax.lax.scan(turn, carry, numbers, length=block.repeats)
            results.append(result)
        scores = {
            domain: _play(own, domain, carry.learnt, numbers, explore=False)
            for domain, numbers in inputs.evaluations.items()
        }
        return carry, Played(tuple(results), scores)

    return program


def _carry_out(
    world: World,
    steps: Sequence[Step],
    data: EpisodeStore | None,
    root: jax.Array,
    carry: Carry,
    seeds: jax.Array,
) -> tuple[Carry, tuple[Any, ...]]:
    """The steps of a block, once; ``seeds`` ``[collections, E]`` are those of its episodes."""
    results: list[Any] = []
    collections = iter(seeds)
    for step in steps:
        result: Any = ()
        match step:
            case Collect(phase):
                numbers = next(collections)
                result = _play(world, phase.plays, carry.learnt, numbers, explore=True)
                carry = carry._replace(flight=carry.flight | {phase.plays: result})
            case Learn():
                carry, result = _learn(world.method, step, data, root, carry)
            case Join(phase):
                carry = _join(carry, phase.plays, world.slots[phase.plays])
        results.append(result)
    return carry, tuple(results)


def _learn(
    method: Method, step: Learn, data: EpisodeStore | None, root: jax.Array, carry: Carry
) -> tuple[Carry, dict[str, jax.Array]]:
    phase = step.phase
    resident = {domain: carry.stores[domain] for domain in phase.reads if domain != TARGET}
    if TARGET in phase.reads:
        assert data is not None
        resident[TARGET] = data
    state, metrics = run_updates(
        method.updates[phase.update],
        TrainState(carry.learnt, Clock(carry.updates, root)),
        resident,
        {},
        carry.done,
        shape=Shape(step.updates, method.length, method.batch, method.before),
    )
    done, updates = carry.done + step.updates, state.clock.updates
    return carry._replace(learnt=state.learnt, updates=updates, done=done), metrics


def _play(world: World, domain: str, learnt: State, seeds: jax.Array, *, explore: bool) -> Row:
    """Episodes of ``seeds`` ``[E]``, played by the parameters of ``learnt``."""
    player = world.method.players[domain]
    start = player.start(1)
    memories = jax.vmap(lambda seed: (start, make_key(seed), jnp.int32(0)))(seeds)
    environment = world.environments[domain]
    act = Acting(player, explore).__call__
    return play(environment, act, player.reads, seeds, player.params(learnt), memories)


def _join(carry: Carry, domain: str, slots: int) -> Carry:
    """The collection of ``domain`` in its replay, one episode after another."""
    rows, store, written = carry.flight[domain], carry.stores[domain], carry.written[domain]
    length, episodes = rows.reward.shape
    surplus = store.action.shape[-1] - rows.action.shape[-1]
    for index in range(episodes):
        own = jax.tree.map(lambda leaf: leaf[:, index], rows)  # noqa: B023  # called at once
        action = jnp.pad(own.action, ((0, 0), (0, surplus)))
        state = own.state[:, : store.state.shape[-1]]
        episode = Batch(own.image, action, own.reward, own.discount, state)
        store = write_episode(store, episode, written % slots, jnp.int32(length))
        written += 1
    return carry._replace(
        stores=carry.stores | {domain: store}, written=carry.written | {domain: written}
    )


def empty_flight(world: World, domain: str, episodes: int) -> Row:
    """Zeros in the form of a collection, ``[R, E, ...]``."""
    learnt = jax.eval_shape(world.method.init, make_key(0))
    seeds = jnp.zeros((episodes,), jnp.uint32)
    shapes = jax.eval_shape(functools.partial(_play, world, domain, explore=True), learnt, seeds)
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


def over_seeds(
    program: Program, vectorised: bool
) -> Callable[[Carry, EpisodeStore | None, Inputs, jax.Array], tuple[Carry, Played]]:
    """``program`` for every seed: all arguments but the dataset get a leading axis ``[S, ...]``.

    Args:
        program: of one seed.
        vectorised: all at once, or one after another.

    Returns:
        A function with a fourth argument, bool ``[S]``: seeds that take part. What the others have
        does not change, and what is told of them has no meaning.
    """

    def at_once(
        carries: Carry, data: EpisodeStore | None, inputs: Inputs, part: jax.Array
    ) -> tuple[Carry, Played]:
        new, played = jax.vmap(program, in_axes=(0, None, 0))(carries, data, inputs)

        def choose(there: jax.Array, here: jax.Array) -> jax.Array:
            return jnp.where(part.reshape(-1, *[1] * (here.ndim - 1)), here, there)

        return jax.tree.map(choose, carries, new), played

    def in_turn(
        carries: Carry, data: EpisodeStore | None, inputs: Inputs, part: jax.Array
    ) -> tuple[Carry, Played]:
        def turn(carries: Carry, item: tuple[jax.Array, Inputs, jax.Array]) -> tuple[Carry, Played]:
            index, own, takes_part = item
            carry = jax.tree.map(lambda leaves: leaves[index], carries)
            carry, played = _unless_idle(program, takes_part, carry, data, own)
            return jax.tree.map(lambda all_, one: all_.at[index].set(one), carries, carry), played

        return jax.lax.scan(turn, carries, (jnp.arange(part.size), inputs, part))

    def alone(
        carries: Carry, data: EpisodeStore | None, inputs: Inputs, part: jax.Array
    ) -> tuple[Carry, Played]:
        del part  # it is asked for nothing when it does not take part
        carry, own = jax.tree.map(lambda leaf: leaf[0], (carries, inputs))
        return jax.tree.map(lambda leaf: leaf[None], program(carry, data, own))

    def run(
        carries: Carry, data: EpisodeStore | None, inputs: Inputs, part: jax.Array
    ) -> tuple[Carry, Played]:
        way = alone if part.size == 1 else at_once if vectorised else in_turn
        return way(carries, data, inputs, part)

    return run


def _unless_idle(
    program: Program, takes_part: jax.Array, carry: Carry, data: EpisodeStore | None, inputs: Inputs
) -> tuple[Carry, Played]:
    """``program``, or nothing at all."""
    _, shapes = jax.eval_shape(program, carry, data, inputs)

    def idle() -> tuple[Carry, Played]:
        return carry, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    return jax.lax.cond(takes_part, lambda: program(carry, data, inputs), idle)


def stack(trees: Sequence[Tree]) -> Tree:
    """Trees of arrays as one, with a leading axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
