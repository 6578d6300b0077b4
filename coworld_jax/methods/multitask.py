"""Multi-Task DV2: one world model of both domains, an actor and a critic for each.

A baseline of CoWorld (arXiv 2305.15260, section 4.1; numbers exist for Meta-World to RoboDesk
alone, in Table 6). The paper says no more than that the method "jointly trains" on the
target's dataset and on the source, which is played online. There are no couplings: what the two
domains share, they share through the world model.

One update takes a batch of the source's replay and one of the target's dataset. The joint batch
keeps B chunks: ``target_share`` of them come from the target, the others from the source, mixed
evenly. The world model learns from the joint batch; its losses are logged under the source. Each
domain's behaviour learns in imagination from the posteriors of its own chunks.

What the paper leaves open, and what was chosen:

* The split of the batch: half and half (``target_share = 0.5``).
* One reward head or two: one (``reward_head = "shared"``), as "joint" suggests; ``"separate"``
  gives the target a head of its own, which its imagination then uses.
* No task identity is given to the networks: none is mentioned, and the images differ.
* Different action sizes: all networks have the larger one, surplus coordinates are zero.
* The length: the presets give it the joint updates of CoWorld's target, each paid for by
  ``schedule.train_every`` env_steps of the source.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from coworld_jax import losses
from coworld_jax.agents.dreamer import world_model
from coworld_jax.agents.dreamer.acting import make_player
from coworld_jax.agents.dreamer.agent import Agent, AgentState, init_agent, make_agent
from coworld_jax.agents.dreamer.settings import LearningConfig, NetworkConfig
from coworld_jax.agents.dreamer.updates import (
    BehaviorExtra,
    ModelExtra,
    Terms,
    update_behavior,
    update_world_model,
)
from coworld_jax.agents.dreamer.world_model import Observation, Prediction
from coworld_jax.agents.gradient import Params, prefixed
from coworld_jax.fields import choice, share
from coworld_jax.method import (
    SOURCE,
    TARGET,
    Domain,
    Method,
    Phase,
    only_source,
    widest_action,
)
from coworld_jax.schedule import OnlineConfig, learn_online, prefill
from coworld_jax.types import Batch, Metrics

_TARGET_REWARD = "target_reward"  # parameters of the target's own reward head


@dataclass(frozen=True)
class MultitaskSettings:
    """Everything that the method depends on besides its domains."""

    updates: int = 12_000  # of the world model and of both behaviours
    target_share: float = share(0.5, shapes=True)  # of the chunks of a batch
    reward_head: str = choice("shared", "separate")
    network: NetworkConfig = field(default_factory=NetworkConfig)
    learning: LearningConfig = field(default_factory=LearningConfig)
    schedule: OnlineConfig = field(default_factory=OnlineConfig)


@flax.struct.dataclass
class Behavior:
    """What one domain's actor and critic learn."""

    actor: Params
    critic: Params
    slow_critic: Params
    actor_opt: optax.OptState
    critic_opt: optax.OptState
    behavior_updates: jax.Array  # int32 []


@flax.struct.dataclass
class MultitaskState:
    """The joint world model, and the behaviour of each domain."""

    world_model: Params
    world_model_opt: optax.OptState
    source: Behavior
    target: Behavior


class Multitask(NamedTuple):
    """The static parts."""

    source: Agent
    target: Agent
    source_name: str
    settings: MultitaskSettings

    @property
    def separate(self) -> bool:
        """Whether the target has a reward head of its own."""
        return self.settings.reward_head == "separate"


def multitask_domains(settings: MultitaskSettings) -> tuple[str, ...]:
    """Source and target."""
    return (SOURCE, TARGET)


def make_multitask(settings: MultitaskSettings, domains: Mapping[str, Domain]) -> Method:
    """The method for its domains, see `method.Entry`.

    Raises:
        ValueError: several sources, or a batch that cannot be shared so.
    """
    name, learning = only_source(domains, "Multi-Task DV2"), settings.learning
    chunks = target_chunks(settings, learning.batch)
    agent = make_agent(settings.network, learning, widest_action(domains))
    multitask = Multitask(
        source=agent._replace(action_size=domains[name].action_size),
        target=agent._replace(action_size=domains[TARGET].action_size),
        source_name=name,
        settings=settings,
    )
    joint = Phase("joint", "joint", reads=(name, TARGET), plays=name, scores=(name, TARGET))
    online = settings.schedule

    def update(
        state: MultitaskState,
        batches: Mapping[str, Batch],
        key: jax.Array,
        count: jax.Array,
        axis_name: str | None = None,
    ) -> tuple[MultitaskState, Metrics]:
        return joint_update(multitask, state, batches[name], batches[TARGET], key, axis_name)

    return Method(
        init=lambda key: _init(multitask, key),
        updates={"joint": update},
        plan=(
            prefill(name, domains[name], online),
            *learn_online(joint, online, settings.updates, online.first_updates),
        ),
        players={
            name: make_player(multitask.source, source_agent),
            TARGET: make_player(multitask.target, lambda state: target_agent(multitask, state)),
        },
        length=learning.length,
        batch=learning.batch,
        shares=math.gcd(len(chunks), int(chunks.sum())),
    )


def target_chunks(settings: MultitaskSettings, batch: int) -> np.ndarray:
    """Which chunks of a batch come from the target, bool ``[B]``, mixed evenly.

    Chunk b does where ``⌊(b + 1) share⌋ > ⌊b share⌋``. Every device has the same pattern, for its
    batch holds a whole number of them: N devices then learn from the chunks of one.

    Raises:
        ValueError: the share is no whole number of chunks, or leaves a domain without one.
    """
    chunks = round(settings.target_share * batch)
    if not (0 < chunks < batch and math.isclose(chunks, settings.target_share * batch)):
        raise ValueError(
            f"target_share is {settings.target_share} of {batch} chunks (learning.batch, divided "
            "by the devices): both domains need a whole number of them, at least one."
        )
    return np.diff(np.arange(batch + 1) * chunks // batch) > 0


def _init(multitask: Multitask, key: jax.Array) -> MultitaskState:
    """Fresh parts; the first child of ``key`` belongs to the run."""
    _, key_source, key_target = jax.random.split(key, 3)
    source, target = (init_agent(multitask.source, key) for key in (key_source, key_target))
    model = source.world_model
    if multitask.separate:
        model = model | {_TARGET_REWARD: target.world_model["reward"]}
    return MultitaskState(
        world_model=model,
        world_model_opt=multitask.source.model_optimizer.init(model),
        source=_behavior(source),
        target=_behavior(target),
    )


def _behavior(agent: AgentState) -> Behavior:
    return Behavior(**{part.name: getattr(agent, part.name) for part in fields(Behavior)})


def _agent(state: MultitaskState, model: Params, behavior: Behavior) -> AgentState:
    parts: dict[str, Any] = {part.name: getattr(behavior, part.name) for part in fields(Behavior)}
    return AgentState(world_model=model, world_model_opt=state.world_model_opt, **parts)


def source_agent(state: MultitaskState) -> AgentState:
    """The source's view of the state: an agent with the joint world model."""
    return _agent(state, state.world_model, state.source)


def target_agent(multitask: Multitask, state: MultitaskState) -> AgentState:
    """The target's view of the state; its own reward head stands in the place of the source's."""
    model = state.world_model
    if multitask.separate:
        model = model | {"reward": model[_TARGET_REWARD]}
    return _agent(state, model, state.target)


def joint_batch(source: Batch, target: Batch, from_target: np.ndarray) -> Batch:
    """Chunk b of the target where ``from_target[b]``, else that of the source, ``[T, B, ...]``."""

    def mix(mine: jax.Array, other: jax.Array) -> jax.Array:
        chosen = from_target.reshape(1, -1, *[1] * (mine.ndim - 2))
        return jnp.where(chosen, other, mine)

    return jax.tree.map(mix, source, target)


def joint_update(
    multitask: Multitask,
    state: MultitaskState,
    source_batch: Batch,
    target_batch: Batch,
    key: jax.Array,
    axis_name: str | None = None,
) -> tuple[MultitaskState, Metrics]:
    """One update of the joint world model, then one of each domain's behaviour.

    Args:
        source_batch, target_batch: ``[T, B, ...]`` each; a share of either is used.
        key: consumed.

    **Gradient:** the world model's loss to the world model; each actor's and critic's to itself.
    """
    key_model, key_source, key_target = jax.random.split(key, 3)
    from_target = target_chunks(multitask.settings, target_batch.reward.shape[1])
    batch = joint_batch(source_batch, target_batch, from_target)
    theirs, ours = np.flatnonzero(from_target), np.flatnonzero(~from_target)

    def own_rewards(params: Params, seen: Observation, prediction: Prediction, *_: object) -> Terms:
        if not multitask.separate:
            return Terms()
        head = params | {"reward": params[_TARGET_REWARD]}
        reward = world_model.predict_reward(multitask.target.model, head, seen.feat[:, theirs])
        both = prediction.reward.at[:, theirs].set(reward)
        return Terms(replaced={"reward": losses.reward_loss(both, batch.reward)})

    agent, seen, metrics = update_world_model(
        multitask.source, source_agent(state), batch, key_model, ModelExtra(own_rewards), axis_name
    )
    state = replace(state, world_model=agent.world_model, world_model_opt=agent.world_model_opt)
    source, source_metrics = update_behavior(
        multitask.source,
        source_agent(state),
        jax.tree.map(lambda leaf: leaf[:, ours], seen.post),
        batch.discount[:, ours],
        key_source,
        BehaviorExtra(),
        axis_name,
    )
    target, target_metrics = update_behavior(
        multitask.target,
        target_agent(multitask, state),
        jax.tree.map(lambda leaf: leaf[:, theirs], seen.post),
        batch.discount[:, theirs],
        key_target,
        BehaviorExtra(),
        axis_name,
    )
    state = replace(state, source=_behavior(source), target=_behavior(target))
    logged = prefixed(multitask.source_name, metrics | source_metrics)
    return state, logged | prefixed(TARGET, target_metrics)
