"""The contract of a method: what training asks of it, as types.

A method knows domains: which agents there are, whose data an update reads, who plays where. It
knows no simulator, no file and no loop. Training carries its plan out and knows no method.

A method is made from its settings and from its domains::

    Entry(Settings, make, domains)      # one line of coworld_jax.methods.METHODS
    make(settings, {name: Domain}) -> Method

Domains are called ``target`` (a fixed dataset; its simulator serves evaluation only) and ``source``
(a simulator that is played), or ``source0``, ``source1`` ... where there are several.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from coworld_jax.types import Batch, Metrics

SOURCE, TARGET = "source", "target"

KEYS = "threefry2x32"  # the generator of all random draws, whatever jax's settings say

State = Any
"""What a method learns: a pytree of arrays."""

Memory = Any
"""What a player remembers between two observations: a pytree of arrays ``[B, ...]``."""


class Domain(NamedTuple):
    """What a method knows of a domain before it is made."""

    action_size: int  # A of its own simulator
    state_size: int  # N of the simulator's state vector; 0 where it gives none
    episode_steps: int  # env_steps of an episode


class Phase(NamedTuple):
    """One stretch of a run. The plan of a method is a tuple of these."""

    name: str  # for the reader
    update: str = ""  # name of the update that runs; empty for random play and nothing else
    updates: int = 0
    reads: tuple[str, ...] = ()  # domains whose batches the update gets
    plays: str = ""  # domain that is played beside the updates
    env_steps: int = 0  # of that play, in whole episodes
    first_updates: int = 0  # of ``updates``, those at the beginning, before any new data
    scores: tuple[str, ...] = ()  # domains that the evaluations of this phase play
    # What this phase reads of the target's images and does not change, a name in
    # ``Method.embeddings``. Its batches may hold it as ``Batch.embed``; where that is None the
    # update computes it.
    embeds: str = ""


class Update(Protocol):
    """One update of one phase: a pure function of arrays.

    Args:
        state: what the method has learnt.
        batches: of the domains that the phase reads, time-major. Their actions have the largest
            action size of all domains; surplus coordinates are zero.
        key: consumed.
        count: updates made in this phase before, int32 ``[]``; a traced value.
        axis_name: mapped axis over which the batches are split, or None. Gradients, and statistics
            of a batch that enter the state, are averaged over it (`agents.gradient.averaged`):
            training makes sure that all devices end in the same state.

    Returns:
        The new state, and scalars to log under ``domain/part/quantity``.
    """

    def __call__(
        self,
        state: State,
        batches: Mapping[str, Batch],
        key: jax.Array,
        count: jax.Array,
        axis_name: str | None = None,
    ) -> tuple[State, Metrics]: ...


class Player(NamedTuple):
    """Who plays in a domain. It is static: new parameters compile nothing."""

    reads: str  # the observation: "image", uint8 [64, 64, 3], or "state", float32 [N]
    params: Callable[[State], Any]  # what acting needs of a state
    start: Callable[[int], Memory]  # batch size -> memory before the first observation
    # (params, memory, observation [B, ...], key, explore=...) -> (memory, action). The action has
    # the ``action_size`` coordinates of the domain first; more of them are left out.
    act: Callable[..., tuple[Memory, jax.Array]]
    discount: float  # per env_step, in [0, 1], that its values are of
    # (state, observation [T, N, ...], action [T, N, A], key) -> critics' values {name: [T, N]};
    # that of row t includes the reward of row t. The first is the player's own critic. None for a
    # player without a critic.
    values: Callable[..., dict[str, jax.Array]] | None = None
    # (state, observation [T, N, ...], action [T, N, A], context) -> the observations that it
    # expects from ``context`` of them and the actions. None for a player without a decoder.
    predict: Callable[..., jax.Array] | None = None
    action_size: int | None = None  # of the domain's simulator; None: all coordinates of ``act``


class Method(NamedTuple):
    """A method, ready to be trained."""

    # key -> State. The first child of the key, fold_in(key, 0), belongs to the run: take others.
    init: Callable[[jax.Array], State]
    updates: Mapping[str, Update]
    plan: tuple[Phase, ...]
    players: Mapping[str, Player]  # by domain
    length: int  # T, rows of a chunk
    batch: int  # B, chunks of an update, over all devices
    before: int = 0  # rows by which a chunk may begin before its episode, see `store.sample_rows`
    # By name, functions of the state and of images uint8 [n, height, width, 3], to [n, ...].
    embeddings: Mapping[str, Callable[[State, jax.Array], jax.Array]] = MappingProxyType({})
    shares: int | None = None  # the number of devices that share an update divides it; None: B
    ignores_ends: bool = False  # rewards are expected beyond the end, and no setting changes that


class Beginning(NamedTuple):
    """The first phases of a plan, where runs with other settings would do the same."""

    phase: str  # name of the last of them
    unread: tuple[str, ...]  # settings on which nothing up to there depends


class Entry(NamedTuple):
    """A line of the registry."""

    # A frozen dataclass; its fields are flags, see `fields`. Its numbers may be traced values: one
    # whose value ``make`` or an update needs (``if``, ``range``, NumPy) is declared with
    # `fields.shaping`.
    settings: type
    make: Callable[[Any, Mapping[str, Domain]], Method]
    # Settings -> domains that the method needs with them; ``source`` stands for all sources.
    domains: Callable[[Any], tuple[str, ...]]
    # Settings that may be larger when a run goes on, for no update depends on them.
    may_grow: tuple[str, ...] = ()
    # What runs may share that differ in some settings; None where they share nothing.
    beginning: Beginning | None = None


class Clock(NamedTuple):
    """What decides the random draws of an update: nothing else does."""

    updates: jax.Array  # int32 [], of the whole run
    key: jax.Array  # typed PRNG key [], the root


class TrainState(NamedTuple):
    """Everything that a scan carries."""

    learnt: State  # of the method
    clock: Clock


def make_key(seed: int | jax.Array) -> jax.Array:
    """The root key of ``seed``."""
    return jax.random.key(seed, impl=KEYS)


def init_train_state(method: Method, key: jax.Array) -> TrainState:
    """A fresh run. The method's key is ``key``, and the run's root key its first child."""
    clock = Clock(jnp.zeros((), jnp.int32), jax.random.fold_in(key, 0))
    return TrainState(method.init(key), clock)


def source_names(count: int) -> tuple[str, ...]:
    """Names of ``count`` source domains: ``source``, or ``source0``, ``source1`` ..."""
    return (SOURCE,) if count == 1 else tuple(f"{SOURCE}{index}" for index in range(count))


def sources_of(domains: Mapping[str, Domain]) -> tuple[str, ...]:
    """The source domains among those that a method is made for, in order."""
    return tuple(name for name in domains if name != TARGET)


def only_source(domains: Mapping[str, Domain], what: str) -> str:
    """The name of the source domain, where there is one.

    Args:
        what: learns from it, for the sentence.

    Raises:
        ValueError: there are several.
    """
    names = sources_of(domains)
    if len(names) != 1:
        raise ValueError(f"source names {len(names)} tasks, but {what} takes one: name one task.")
    return names[0]


def widest_action(domains: Mapping[str, Domain]) -> int:
    """The largest action size, which the actions of all batches have."""
    return max(domain.action_size for domain in domains.values())
