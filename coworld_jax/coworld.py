"""CoWorld: two kinds of agents, three couplings, and the scanned phase that trains them in turns.

The source may read its simulator's state vector instead of images (the paper's Table 4). The
couplings show the target's images to the source's encoder, which such a source does not have. It
therefore learns one more network on its simulated steps, of which it knows state and image: the
*bridge*, an encoder of images that gives what the state encoder gives for the same moment
(`losses.bridge_loss`). Coupling A then compares the target's encoder with the bridge, and coupling
B filters the target's images through it; what they teach the target is what the states taught the
source. Nothing flows back from the bridge into the state encoder, so the source's own learning is
that of a DreamerV2 agent on states. How far simulated and target images look alike decides how well
the bridge carries, as it does for an encoder of images.

The update of a phase is a pure function ``(state, batches, key) -> (state, metrics)``; a phase runs
it ``updates`` times inside one `jax.lax.scan` that samples its batches from the device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sized
from dataclasses import replace
from typing import NamedTuple, Protocol

import flax.struct
import jax
import jax.numpy as jnp

from coworld_jax import losses, world_model
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
from coworld_jax.store import EpisodeStore, sample
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
    """The agents of both kinds of domains, and how they are coupled.

    They are the same where both read images, and share all sizes but those of encoder and decoder
    where the source reads its simulator's state.
    """

    source_agent: Agent
    target_agent: Agent
    coupling: CouplingConfig
    aligned_updates: int  # source updates over which eta anneals

    def agent(self, domain: str) -> Agent:
        """The agent of a domain: ``target``, or any source."""
        return self.target_agent if domain == TARGET else self.source_agent


class Update(Protocol):
    """One update of one phase."""

    def __call__(
        self,
        state: CoWorldState,
        batches: Mapping[str, Batch],
        key: jax.Array,
        axis_name: str | None = None,
    ) -> tuple[CoWorldState, Metrics]: ...


def make_coworld(
    config: Config, action_size: int, aligned_updates: int, state_size: int = 0
) -> CoWorld:
    """The method that a configuration describes.

    Args:
        action_size: the largest of all domains; the others leave the surplus coordinates at zero.
        aligned_updates: see `schedule.aligned_updates`.
        state_size: see `schedule.shared_state_size`; 0 where the source reads images.
    """
    target = source = make_agent(config.network, config.learning, action_size)
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

    if method.source_agent is method.target_agent:
        target, *others = fresh(method.target_agent, keys[1:])
    else:
        [target] = fresh(method.target_agent, keys[1:2])
        others = fresh(method.source_agent, keys[2:])
    return CoWorldState(
        target=target,
        sources=tuple(others),
        updates=jnp.zeros((), jnp.int32),
        key=keys[0],
    )


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

    Args:
        batch: target images, ``[T, B, ...]``.

    Returns:
        That source's state, and the mean coupling-A distance of every source, nats, ``[M]``.

    A less-trained encoder has a flatter softmax and therefore a smaller distance: log the choice.
    """
    image = world_model.normalise_image(batch.image)
    embed = world_model.encode(method.target_agent.model, target.world_model, image)

    def distance(source: AgentState) -> jax.Array:
        other = world_model.encode_image(method.source_agent.model, source.world_model, image)
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

    Args:
        source: the state to update.
        source_batch: from the source's replay, ``[T, B, ...]``.
        target_batch: from the offline dataset, ``[T, B, ...]``, or None before co-training.
        key: consumed.

    Returns:
        The new state and metrics. **Gradient:** the source's own parameters; no target parameter
        is read.
    """
    agent, model = method.source_agent, method.source_agent.model
    key_model, key_behavior, key_aligned = jax.random.split(key, 3)
    eta = source_reward_weight(method.coupling, source.aligned_updates, method.aligned_updates)

    def reward_alignment(
        params: Params, seen: Observation, prediction: Prediction, observed: jax.Array
    ) -> dict[str, jax.Array]:
        if target_batch is None:
            return {}
        time, chunks = target_batch.reward.shape
        noise = world_model.latent_noise(model, key_aligned, time, chunks, axis_name)
        image = world_model.normalise_image(target_batch.image)
        embed = world_model.encode_image(model, params, image)
        across = world_model.observe(model, params, embed, target_batch.action, noise)
        reward = losses.reward_alignment_loss(
            prediction.reward,
            world_model.predict_reward(model, params, across.feat),
            source_batch.reward,
            target_batch.reward,
            source_reward_weight=eta,
            reward_mix=method.coupling.reward_mix,
        )
        return {"reward": reward}

    source, seen, metrics = update_world_model(
        agent, source, source_batch, key_model, reward_alignment, {}, axis_name
    )
    source, behavior_metrics = update_behavior(
        agent, source, seen.post, source_batch.discount, key_behavior, _no_terms, {}, axis_name
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
    agent, coupling = method.target_agent, method.coupling
    key_model, key_behavior = jax.random.split(key)

    def state_alignment(
        params: Params, seen: Observation, prediction: Prediction, image: jax.Array
    ) -> dict[str, jax.Array]:
        if not coupling.state_alignment:
            return {}
        source_embed = world_model.encode_image(
            method.source_agent.model, source.world_model, image
        )
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
        source_value = method.source_agent.critic.apply(source.critic, imagined.feat)
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


def make_update(method: CoWorld, kind: str, source: int, aligned: bool) -> Update:
    """The update of a phase (see `schedule.Phase`) on the whole state.

    Other agents than the one that learns come back bit-identical.
    """

    def update_source(
        state: CoWorldState,
        batches: Mapping[str, Batch],
        key: jax.Array,
        axis_name: str | None = None,
    ) -> tuple[CoWorldState, Metrics]:
        agent_state, metrics = source_update(
            method,
            state.sources[source],
            batches[SOURCE],
            batches[TARGET] if aligned else None,
            key,
            axis_name,
        )
        sources = state.sources[:source] + (agent_state,) + state.sources[source + 1 :]
        return replace(state, sources=sources), _prefixed(source_name(source, sources), metrics)

    def update_target(
        state: CoWorldState,
        batches: Mapping[str, Batch],
        key: jax.Array,
        axis_name: str | None = None,
    ) -> tuple[CoWorldState, Metrics]:
        batch, chosen, selection = batches[TARGET], state.sources[0], {}
        if len(state.sources) > 1:
            chosen, distances = nearest_source(
                method, state.target, state.sources, batch, axis_name
            )
            selection = {"model/source_chosen": jnp.argmin(distances).astype(jnp.float32)}
        agent_state, metrics = target_update(
            method, state.target, chosen, batch, key, axis_name, behavior=kind == "target"
        )
        return replace(state, target=agent_state), _prefixed(TARGET, metrics | selection)

    return {"source": update_source, "world_model": update_target, "target": update_target}[kind]


def update_keys(key: jax.Array, updates: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
    """Keys of one update: one for each domain's sampling, one for the update itself.

    A pure function of the root key and the count, which is all that a resumed run, another host or
    a streamed feed needs to repeat a batch.
    """
    key_source, key_target, key_update = jax.random.split(jax.random.fold_in(key, updates), 3)
    return {SOURCE: key_source, TARGET: key_target}, key_update


def run_phase(
    update: Update,
    state: CoWorldState,
    resident: Mapping[str, EpisodeStore],
    streamed: Mapping[str, Batch],
    *,
    updates: int,
    length: int,
    batch: int,
    axis_name: str | None = None,
) -> tuple[CoWorldState, Metrics]:
    """``updates`` updates in one scan: sample, update, count.

    Args:
        update: from `make_update`.
        state: donated by callers that jit this.
        resident: episodes of a domain (``"source"``, ``"target"``) on the device.
        streamed: batches of the domains that are not resident, ``[updates, T, B, ...]``.
        length: T.
        batch: B, over all devices.
        axis_name: mapped axis: every device takes its share of the same batch. Streamed batches
            come divided already.

    Returns:
        The new state, and each metric for every update, ``[updates]``.
    """

    def step(state: CoWorldState, feed: dict[str, Batch]) -> tuple[CoWorldState, Metrics]:
        key_sample, key_update = update_keys(state.key, state.updates)
        batches = feed | {
            domain: sample(store, key_sample[domain], length, batch, axis_name)
            for domain, store in resident.items()
        }
        state, metrics = update(state, batches, key_update, axis_name)
        return replace(state, updates=state.updates + 1), metrics

    return jax.lax.scan(step, state, dict(streamed), length=updates)


def _no_terms(imagined: Imagined, value: jax.Array) -> tuple[Metrics, Metrics]:
    return {}, {}


def _prefixed(domain: str, metrics: Metrics) -> Metrics:
    return {f"{domain}/{name}": value for name, value in metrics.items()}
