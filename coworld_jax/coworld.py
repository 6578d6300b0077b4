"""CoWorld: two kinds of agents, and the three couplings in their updates.

Updates are pure functions of states and batches; `phases` runs them in turns.

**A source that reads states** (``source_observation = "state"``; the paper's Table 4, which does
not say how it is aligned). Couplings A and B show target images to the source, whose encoder then
cannot take them. But a simulator gives both: at each of its steps the state and the image are
known. So the source's world model has one network more, the *bridge*, an image encoder like the
target's, which learns on the source's own steps to give the embedding that the state encoder gives
there (`losses.bridge_loss`). On target images

* A becomes ``KL(sg[softmax(e_bridge(o_T))] || softmax(e_T(o_T)))``: the target's encoder is drawn
  to what the source would read off the state behind the image, as far as images show it;
* B filters ``e_bridge(o_T)`` with the target's actions through the source's RSSM. Its gradient
  reaches the bridge, the RSSM and the reward head, as it reaches encoder, RSSM and head of a source
  that sees: the bridge, which has known simulated frames alone, learns there from the target's. The
  state encoder needs none: no target state is known;
* C and the behaviour read features, which both kinds of source have alike.

The bridge decides nothing in the simulator, where the source acts on states. It begins with the
first update, so that the first alignment finds it trained, and its loss pulls at nothing else: a
source without target is the same agent with it as without it, up to the clipping of the gradient's
norm, which the two share. ``model/bridge_explained`` says how far to trust it: the share of the
embedding's variance over a batch that it explains, at most 1. What a single image does not show,
speeds above all, it cannot give.
"""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import replace
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from coworld_jax import losses, scaling, world_model
from coworld_jax.agent import (
    Agent,
    AgentState,
    init_agent,
    make_agent,
    update_behavior,
    update_world_model,
)
from coworld_jax.behavior import Imagined
from coworld_jax.config import Config, CouplingConfig
from coworld_jax.types import Batch, Metrics
from coworld_jax.world_model import Observation, Params, Prediction

SOURCE, TARGET = "source", "target"


@flax.struct.dataclass
class CoWorldState:
    """One target, one or more sources, the count of updates and the root key."""

    target: AgentState
    sources: tuple[AgentState, ...]
    updates: jax.Array  # int32 []
    key: jax.Array  # typed PRNG key []


class CoWorld(NamedTuple):
    """The agents, and how they are coupled.

    RSSM, heads, actor and critic have the same shapes in all domains; source and target are one and
    the same `Agent` unless the sources read states.
    """

    source: Agent
    target: Agent
    coupling: CouplingConfig
    aligned_updates: int  # source updates over which eta anneals

    def agent(self, domain: str) -> Agent:
        """The networks of a domain: ``target``, ``source``, ``source0`` ..."""
        return self.target if domain == TARGET else self.source

    def with_action_size(self, domain: str, action_size: int) -> CoWorld:
        """With so many coordinates in the actions of a domain's simulator."""
        agent = self.agent(domain)._replace(action_size=action_size)
        return self._replace(target=agent) if domain == TARGET else self._replace(source=agent)


def make_coworld(
    config: Config, action_size: int, aligned_updates: int, state_size: int = 0
) -> CoWorld:
    """The method that a configuration describes.

    Args:
        action_size: the largest of all domains. The others leave the surplus coordinates at zero,
            in episodes and in imagination (`Agent.action_size`, which `phases.make_update` sets).
        aligned_updates: see `schedule.aligned_updates`.
        state_size: of the states that the sources read, see `schedule.source_state_size`; 0 where
            they read images.
    """
    target = make_agent(config.network, config.learning, action_size)
    source = target
    if state_size:
        source = make_agent(config.network, config.learning, action_size, state_size)
    return CoWorld(source, target, config.coupling, aligned_updates)


def init_coworld(method: CoWorld, sources: int, key: jax.Array) -> CoWorldState:
    """Fresh agents, each from a key of its own."""
    keys = jax.random.split(key, 2 + sources)

    def fresh(agent: Agent, keys: jax.Array) -> list[AgentState]:
        # One traced initialisation for all: half of the compile time for two agents.
        agents = jax.vmap(lambda key: init_agent(agent, key))(keys)
        return [jax.tree.map(lambda x, i=i: x[i], agents) for i in range(len(keys))]

    if method.source is method.target:
        target, *others = fresh(method.target, keys[1:])
    else:
        (target,), others = fresh(method.target, keys[1:2]), fresh(method.source, keys[2:])
    return CoWorldState(
        target=target,
        sources=tuple(others),
        updates=jnp.zeros((), jnp.int32),
        key=keys[0],
    )


def with_source(state: CoWorldState, source: int, agent: AgentState) -> CoWorldState:
    """``state`` with another agent as the source of that index."""
    return replace(state, sources=state.sources[:source] + (agent,) + state.sources[source + 1 :])


def scale_source(state: CoWorldState, source: int, states: jax.Array) -> CoWorldState:
    """``state`` with the scaling of one source measured: once, before its first update.

    Args:
        source: index of a source that reads states.
        states: of its random episodes, raw ``[rows, N]``.
    """
    agent = state.sources[source]
    measured = agent.world_model | {"scaling": scaling.measure_scaling(states)}
    return with_source(state, source, replace(agent, world_model=measured))


def source_reward_weight(
    coupling: CouplingConfig, aligned_updates: jax.Array, total: int
) -> jax.Array:
    """``η``: linear from its start to its end over ``total`` source updates of co-training.

    Reference: CoWorld, section 4.2. It is stuck at 0.975 in the authors' code; equal start and end
    give such a constant.
    """
    start, end = coupling.source_reward_weight_start, coupling.source_reward_weight_end
    share = jnp.clip(aligned_updates / max(total, 1), 0.0, 1.0)
    return start + (end - start) * share


def nearest_source(
    method: CoWorld,
    target: AgentState,
    sources: tuple[AgentState, ...],
    batch: Batch,
    axis_name: str | None = None,
) -> tuple[AgentState, jax.Array]:
    """The source whose encoder is closest to the target's on a target batch (Appendix C).

    Sources that read states are compared by their bridges, which coupling A reads too.

    Args:
        batch: target images, ``[T, B, ...]``.

    Returns:
        That source's state, and the mean coupling-A distance of every source, nats, ``[M]``.

    A less-trained encoder has a flatter softmax and therefore a smaller distance: log the choice.
    """
    image = world_model.normalise_image(batch.image)
    embed = world_model.encode(method.target.model, target.world_model, image)

    def distance(source: AgentState) -> jax.Array:
        other = world_model.encode_image(method.source.model, source.world_model, image)
        return jnp.mean(losses.alignment_loss(embed, other))

    distances = jnp.stack([distance(source) for source in sources])
    if axis_name is not None:
        distances = jax.lax.pmean(distances, axis_name)
    chosen = jnp.argmin(distances)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves)[chosen], *sources)
    return stacked, jax.lax.stop_gradient(distances)


def source_update(
    method: CoWorld,
    source: AgentState,
    source_batch: Batch,
    target_batch: Batch | None,
    key: jax.Array,
    axis_name: str | None = None,
) -> tuple[AgentState, Metrics]:
    """One update of a source agent; coupling B when a target batch is given.

    A source that reads states trains its bridge as well, on the images of its own batch.

    Args:
        source: the state to update.
        source_batch: from the source's replay, ``[T, B, ...]``.
        target_batch: from the offline dataset, ``[T, B, ...]``, or None before co-training.
        key: consumed.

    Returns:
        The new state and metrics. **Gradient:** the source's own parameters; no target parameter
        is read.
    """
    agent, model = method.source, method.source.model
    key_model, key_behavior, key_aligned = jax.random.split(key, 3)
    eta = source_reward_weight(method.coupling, source.aligned_updates, method.aligned_updates)

    def own_and_aligned(
        params: Params, seen: Observation, prediction: Prediction, observation: jax.Array
    ) -> dict[str, jax.Array]:
        terms = {}
        if model.bridge is not None:
            image = world_model.normalise_image(source_batch.image)
            bridged = world_model.encode_image(model, params, image)
            terms["bridge"] = losses.bridge_loss(bridged, seen.embed)
        if target_batch is None:
            return terms
        time, chunks = target_batch.reward.shape
        noise = world_model.latent_noise(model, key_aligned, time, chunks, axis_name)
        image = world_model.normalise_image(target_batch.image)
        embed = world_model.encode_image(model, params, image)
        across = world_model.observe(model, params, embed, target_batch.action, noise)
        terms["reward"] = losses.reward_alignment_loss(
            prediction.reward,
            world_model.predict_reward(model, params, across.feat),
            source_batch.reward,
            target_batch.reward,
            source_reward_weight=eta,
            reward_mix=method.coupling.reward_mix,
        )
        return terms

    scales = {} if model.bridge is None else {"bridge": 1.0}
    source, seen, metrics = update_world_model(
        agent, source, source_batch, key_model, own_and_aligned, scales, axis_name
    )
    source, behavior_metrics = update_behavior(
        agent, source, seen.post, source_batch.discount, key_behavior, _no_terms, {}, axis_name
    )
    if model.bridge is not None:
        metrics["model/bridge_explained"] = 1.0 - metrics["model/bridge"] / _spread(
            seen.embed, axis_name
        )
    if target_batch is not None:
        source = replace(source, aligned_updates=source.aligned_updates + 1)
        metrics["model/source_reward_weight"] = eta
    return source, metrics | behavior_metrics


def target_update(
    method: CoWorld,
    target: AgentState,
    source: AgentState,
    batch: Batch,
    key: jax.Array,
    axis_name: str | None = None,
    *,
    behavior: bool = True,
) -> tuple[AgentState, Metrics]:
    """One update of the target agent, with coupling A and, for its critic, coupling C.

    Args:
        target: the state to update.
        source: parameters that A and C read; never changed.
        batch: from the offline dataset, ``[T, B, ...]``.
        key: consumed.
        behavior: False updates the world model alone (the warm-up).

    Returns:
        The new state and metrics. **Gradient:** the target's own parameters.
    """
    agent, coupling = method.target, method.coupling
    key_model, key_behavior = jax.random.split(key)

    def state_alignment(
        params: Params, seen: Observation, prediction: Prediction, image: jax.Array
    ) -> dict[str, jax.Array]:
        if not coupling.state_alignment:
            return {}
        source_embed = world_model.encode_image(method.source.model, source.world_model, image)
        return {"alignment": losses.alignment_loss(seen.embed, source_embed)}

    target, seen, metrics = update_world_model(
        agent,
        target,
        batch,
        key_model,
        state_alignment,
        {"alignment": coupling.alignment_scale} if coupling.state_alignment else {},
        axis_name,
    )
    if not behavior:
        return target, metrics

    def value_constraint(imagined: Imagined, value: jax.Array) -> tuple[Metrics, Metrics]:
        source_value = method.source.critic.apply(source.critic, imagined.feat)
        logged = {
            "source_value": source_value,
            "above_source": (value > source_value).astype(jnp.float32),
        }
        terms = {}
        if coupling.value_constraint:
            terms["constraint"] = losses.value_constraint_loss(
                value, source_value, imagined.weight, use_max=coupling.constraint_max
            )
        return terms, logged

    scales = {"constraint": coupling.value_constraint_scale} if coupling.value_constraint else {}
    target, behavior_metrics = update_behavior(
        agent, target, seen.post, batch.discount, key_behavior, value_constraint, scales, axis_name
    )
    return target, metrics | behavior_metrics


def source_name(source: int, sources: Sized) -> str:
    """Domain of a source: ``source``, or ``source0``, ``source1`` ... among several."""
    return SOURCE if len(sources) == 1 else f"{SOURCE}{source}"


def _spread(embed: jax.Array, axis_name: str | None) -> jax.Array:
    """`losses.bridge_loss` of a bridge that only knows the batch's mean embedding, ``[]``."""
    moments = jnp.mean(jnp.stack([embed, jnp.square(embed)]), axis=(1, 2))
    if axis_name is not None:
        moments = jax.lax.pmean(moments, axis_name)
    # Where nothing varies, a figure all the same.
    return jnp.maximum(0.5 * jnp.sum(moments[1] - jnp.square(moments[0])), 1e-6)


def _no_terms(imagined: Imagined, value: jax.Array) -> tuple[Metrics, Metrics]:
    return {}, {}
