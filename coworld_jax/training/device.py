"""A stretch of a run as one program: its play, its updates and the episodes of its evaluations.

It computes what `training.loop` computes, up to rounding: the same episodes from the same seeds and
the same batches from the same keys. Nothing returns to the host in between. That needs simulators
that are functions of jax, whose episodes all have full length, and a dataset that lies on the
device.

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
import numpy as np

from coworld_jax import parallel
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
    axis_name: str | None = None  # mapped axis of devices that share each batch


class Carry(NamedTuple):
    """What a run changes."""

    learnt: State  # of the method
    updates: jax.Array  # int32 [], of the whole run
    stores: dict[str, EpisodeStore]  # replays, by domain
    written: dict[str, jax.Array]  # int32 [], episodes that each replay was given so far
    flight: dict[str, Row]  # [R, E, ...], the collection of each domain that has not joined


class Common(NamedTuple):
    """What all seeds share."""

    data: EpisodeStore | None  # the offline dataset
    done: jax.Array  # int32 [], updates of the phase before the stretch


class Inputs(NamedTuple):
    """What a run does not change; seeds of episodes are uint32."""

    numbers: dict[str, jax.Array]  # settings, each []; see `fields.numbers`
    root: jax.Array  # words of the key of the updates, uint32 [2]
    collections: tuple[jax.Array, ...]  # for each block [repeats, its collections, E]
    evaluations: dict[str, jax.Array]  # for each domain that is scored [N]


class Played(NamedTuple):
    """Results of a stretch for the host."""

    # For each block a result per step, [repeats, ...]: rows of a collection, metrics of updates.
    blocks: tuple[tuple[Any, ...], ...]
    evaluations: dict[str, Row]  # [R, N, ...]


Program = Callable[[Carry, Common, Inputs], tuple[Carry, Played]]


def stretch_program(world: World, blocks: Sequence[Block]) -> Program:
    """The program of one seed: ``(carry, common, inputs) -> (carry, played)``.

    Args:
        world: the method and the environments.
        blocks: of the stretch; domains to score are those that the inputs name.
    """

    def program(carry: Carry, common: Common, inputs: Inputs) -> tuple[Carry, Played]:
        results, done = [], common.done
        own = world._replace(method=world.make(inputs.numbers))
        root = jax.random.wrap_key_data(inputs.root, impl=KEYS)
        for block, numbers in zip(blocks, inputs.collections, strict=True):
            turn = functools.partial(_carry_out, own, block.steps, common.data, root)
            (carry, done), result = jax.lax.scan(turn, (carry, done), numbers, length=block.repeats)
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
    carried: tuple[Carry, jax.Array],
    seeds: jax.Array,
) -> tuple[tuple[Carry, jax.Array], tuple[Any, ...]]:
    """The steps of a block, once; ``seeds`` ``[collections, E]`` are those of its episodes."""
    results: list[Any] = []
    carry, done = carried
    collections = iter(seeds)
    for step in steps:
        result: Any = ()
        match step:
            case Collect(phase):
                numbers = next(collections)
                result = _play(world, phase.plays, carry.learnt, numbers, explore=True)
                carry = carry._replace(flight=carry.flight | {phase.plays: result})
            case Learn():
                carry, result = _learn(world, step, data, root, carry, done)
                done += step.updates
            case Join(phase):
                carry = _join(carry, phase.plays, world.slots[phase.plays])
        results.append(result)
    return (carry, done), tuple(results)


def _learn(
    world: World,
    step: Learn,
    data: EpisodeStore | None,
    root: jax.Array,
    carry: Carry,
    done: jax.Array,
) -> tuple[Carry, dict[str, jax.Array]]:
    phase, method = step.phase, world.method
    resident = {domain: carry.stores[domain] for domain in phase.reads if domain != TARGET}
    if TARGET in phase.reads:
        assert data is not None
        resident[TARGET] = data
    state, metrics = run_updates(
        method.updates[phase.update],
        TrainState(carry.learnt, Clock(carry.updates, root)),
        resident,
        {},
        done,
        shape=Shape(step.updates, method.length, method.batch, method.before),
        axis_name=world.axis_name,
    )
    return carry._replace(learnt=state.learnt, updates=state.clock.updates), metrics


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
    spec = world.environments[domain].spec

    def zeros(*shape: int, dtype: type = np.float32) -> jax.Array:
        return jnp.asarray(np.zeros((spec.episode_steps + 1, episodes, *shape), dtype))

    return Row(
        image=zeros(spec.image_size, spec.image_size, 3, dtype=np.uint8),
        action=zeros(spec.action_size),
        reward=zeros(),
        discount=zeros(),
        state=zeros(spec.state_size),
        success=zeros(dtype=np.bool_),
    )


def over_seeds(
    program: Program, *, vectorised: bool, mesh: parallel.Mesh | None = None
) -> Callable[[Carry, Common, Inputs, jax.Array], tuple[Carry, Played]]:
    """``program`` for every seed: all arguments but the common ones get an axis ``[S, ...]``.

    Args:
        program: of one seed.
        vectorised: all at once, or one after another.
        mesh: devices that share the seeds equally, or None for a single one.

    The updates of the phase are common to all, so that a `jax.lax.cond` on them stays one.

    Returns:
        A function with a fourth argument, bool ``[S]``: seeds that take part. The others stay as
        they are, and their results have no meaning.
    """

    def at_once(
        carries: Carry, common: Common, inputs: Inputs, part: jax.Array
    ) -> tuple[Carry, Played]:
        new, played = jax.vmap(program, in_axes=(0, None, 0))(carries, common, inputs)

        def choose(there: jax.Array, here: jax.Array) -> jax.Array:
            return jnp.where(part.reshape(-1, *[1] * (here.ndim - 1)), here, there)

        return jax.tree.map(choose, carries, new), played

    def in_turn(
        carries: Carry, common: Common, inputs: Inputs, part: jax.Array
    ) -> tuple[Carry, Played]:
        def turn(carries: Carry, item: tuple[jax.Array, Inputs, jax.Array]) -> tuple[Carry, Played]:
            index, own, takes_part = item
            carry = jax.tree.map(lambda leaves: leaves[index], carries)
            carry, played = _unless_idle(program, takes_part, carry, common, own)
            return jax.tree.map(lambda all_, one: all_.at[index].set(one), carries, carry), played

        return jax.lax.scan(turn, carries, (jnp.arange(part.size), inputs, part))

    def run(
        carries: Carry, common: Common, inputs: Inputs, part: jax.Array
    ) -> tuple[Carry, Played]:
        if part.size > 1:
            return (at_once if vectorised else in_turn)(carries, common, inputs, part)
        carry, own, takes_part = jax.tree.map(lambda leaf: leaf[0], (carries, inputs, part))
        if mesh is None:  # the only seed of all, which always takes part
            new = program(carry, common, own)
        else:
            new = _unless_idle(program, takes_part, carry, common, own)
        return jax.tree.map(lambda leaf: leaf[None], new)

    return run if mesh is None else parallel.split_seeds(run, mesh)


def _unless_idle(
    program: Program, takes_part: jax.Array, carry: Carry, common: Common, inputs: Inputs
) -> tuple[Carry, Played]:
    """``program``, or nothing at all."""
    program = jax.jit(program, inline=True)  # traced once for both uses
    _, shapes = jax.eval_shape(program, carry, common, inputs)

    def idle() -> tuple[Carry, Played]:
        return carry, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    return jax.lax.cond(takes_part, lambda: program(carry, common, inputs), idle)


@jax.jit  # one program for the whole tree, and not one for each shape of a leaf
def stack(trees: Sequence[Tree]) -> Tree:
    """Trees of arrays as one, with a leading axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
