"""The updates of CoWorld's agents, and the three couplings in them.

**A source that reads states** (``source_observation = "state"``; the paper's Table 4, which does
not say how it is aligned). Couplings A and B show target images to the source, whose encoder cannot
take them. But a simulator gives both: at each of its steps the state and the image are known. So
the source's world model has one network more, the *bridge*. It is an image encoder like the
target's. It learns on the source's own steps to give the embedding that the state encoder gives
there (`losses.bridge_loss`). On target images

* A becomes ``KL(sg[softmax(e_bridge(o_T))] || softmax(e_T(o_T)))``: the target's encoder is drawn
  to what the source would read off the state behind the image, as far as images show it;
* B filters ``e_bridge(o_T)`` with the target's actions through the source's RSSM. Its gradient
  reaches the bridge, the RSSM and the reward head. The bridge has known simulated frames alone; it
  learns there from the target's. The state encoder gets no gradient: no target state is known;
* C and the behaviour read features, which both kinds of source have alike.

The bridge decides nothing in the simulator, where the source acts on states. It learns from the
first update on, so that the first alignment finds it trained. Its loss pulls at nothing else: a
source without target is the same agent with it as without it, up to the clipping of the gradient's
norm, which the two share. ``model/bridge_explained`` is the share of the embedding's variance over
a batch that the bridge explains, at most 1. What a single image does not show, speeds above all, it
cannot give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp

from coworld_jax import losses
from coworld_jax.agents.dreamer import world_model
from coworld_jax.agents.dreamer.behavior import Imagined
from coworld_jax.agents.dreamer.updates import (
    BehaviorExtra,
    ModelExtra,
    Terms,
    see_image,
    update_behavior,
    update_world_model,
)
from coworld_jax.agents.dreamer.world_model import Observation, Prediction
from coworld_jax.agents.gradient import Params, averaged, prefixed
from coworld_jax.distributions import categorical_entropy
from coworld_jax.method import TARGET
from coworld_jax.methods.coworld.settings import CouplingConfig
from coworld_jax.methods.coworld.state import CoupledState, CoWorld, CoWorldState, chosen_of
from coworld_jax.types import Batch, Metrics


def source_reward_weight(
    coupling: CouplingConfig, aligned_updates: jax.Array, total: int
) -> jax.Array:
    """``η``: linear from its start to its end over ``total`` source updates of co-training.

    Reference: CoWorld, section 4.2. It stays at 0.975 in the authors' code: set both ends to 0.975
    for that.
    """
    start, end = coupling.source_reward_weight_start, coupling.source_reward_weight_end
    share = jnp.clip(aligned_updates / max(total, 1), 0.0, 1.0)
    return start + (end - start) * share


def source_update(
    coworld: CoWorld,
    index: int,
    source: CoupledState,
    source_batch: Batch,
    target_batch: Batch | None,
    key: jax.Array,
    axis_name: str | None = None,
) -> tuple[CoupledState, Metrics]:
    """One update of a source agent; coupling B when a target batch is given.

    A source that reads states trains its bridge as well, on the images of its own batch.

    Args:
        index: of the source.
        source: the state to update.
        source_batch: from the source's replay, ``[T, B, ...]``.
        target_batch: from the offline dataset, ``[T, B, ...]``, or None before co-training.
        key: consumed.

    Returns:
        The new state and metrics. **Gradient:** the source's own parameters; no target parameter
        is read.
    """
    agent = coworld.sources[index]
    model = agent.model
    key_model, key_behavior, key_aligned = jax.random.split(key, 3)
    eta = source_reward_weight(coworld.coupling, source.aligned_updates, coworld.aligned_updates)

    def terms(
        params: Params,
        seen: Observation,
        prediction: Prediction,
        beside: Sequence[Observation],
    ) -> Terms:
        bridged, aligned = {}, {}
        if model.bridge is not None:
            image = world_model.normalise_image(source_batch.image)
            embed = world_model.encode_image(model, params, image)
            bridged["bridge"] = losses.bridge_loss(embed, seen.embed)
        if target_batch is not None:
            (across,) = beside
            aligned["reward"] = losses.reward_alignment_loss(
                prediction.reward,
                world_model.predict_reward(model, params, across.feat),
                source_batch.reward,
                target_batch.reward,
                source_reward_weight=eta,
                reward_mix=coworld.coupling.reward_mix,
            )
        return Terms(added=bridged, replaced=aligned)

    extra = ModelExtra(
        terms,
        weights={} if model.bridge is None else {"bridge": 1.0},
        beside=()
        if target_batch is None
        else (see_image(agent, target_batch, key_aligned, axis_name),),
    )
    source, seen, metrics = update_world_model(
        agent, source, source_batch, key_model, extra, axis_name
    )
    source, behavior_metrics = update_behavior(
        agent, source, seen.post, source_batch.discount, key_behavior, BehaviorExtra(), axis_name
    )
    if model.bridge is not None:
        unexplained = metrics["model/bridge"] / _spread(seen.embed, axis_name)
        metrics["model/bridge_explained"] = 1.0 - unexplained
    if target_batch is not None:
        source = replace(source, aligned_updates=source.aligned_updates + 1)
        metrics["model/source_reward_weight"] = eta
    return source, metrics | behavior_metrics


def _spread(embed: jax.Array, axis_name: str | None) -> jax.Array:
    """`losses.bridge_loss` of a bridge that only knows the batch's mean embedding, ``[]``."""
    moments = jnp.mean(jnp.stack([embed, jnp.square(embed)]), axis=(1, 2))
    moments = averaged(moments, axis_name)
    # Where nothing varies, a figure all the same.
    return jnp.maximum(0.5 * jnp.sum(moments[1] - jnp.square(moments[0])), 1e-6)


def embed_by_sources(coworld: CoWorld, sources: Sequence[Params], image: jax.Array) -> jax.Array:
    """How some sources embed target images: uint8 ``[..., 64, 64, 3] -> [..., M, E]``, float32.

    Sources that read states embed them by their bridges.

    Args:
        sources: world models.
    """
    model, normal = coworld.sources[0].model, world_model.normalise_image(image)
    embeds = [world_model.encode_image(model, params, normal) for params in sources]
    return jnp.stack(embeds, axis=-2)


def compared_embeds(coworld: CoWorld, state: CoWorldState, image: jax.Array) -> jax.Array:
    """`embed_by_sources` of those that coupling A compares with; one, if chosen for the phase.

    They are frozen while the target learns, so that a whole phase may read them at once
    (`method.Phase.embeds`).
    """
    models = [source.world_model for source in state.sources]
    if state.distances is not None:
        models = [chosen_of(models, jnp.argmin(state.distances))]
    return embed_by_sources(coworld, models, image)


def alignment_losses(embed: jax.Array, source_embeds: jax.Array) -> jax.Array:
    """Coupling A's term for each of some sources, ``[M, T, B]``, nats.

    Args:
        embed: of the target, ``[T, B, E]``; differentiated.
        source_embeds: of the sources, ``[T, B, M, E]``.

    A less-trained encoder has a flatter softmax and therefore a smaller distance.
    """
    each = jnp.moveaxis(source_embeds, -2, 0)
    return jnp.stack([losses.alignment_loss(embed, other) for other in each])


def distances(terms: jax.Array, axis_name: str | None) -> jax.Array:
    """The mean of each source's alignment term, ``[M]``, nats, without gradient."""
    return averaged(jnp.mean(jax.lax.stop_gradient(terms), axis=(1, 2)), axis_name)


def selection_metrics(
    coworld: CoWorld, near: jax.Array, embed: jax.Array, source_embeds: jax.Array
) -> Metrics:
    """What a choice among sources rests on, to be logged, without gradient.

    ``distance_<source>`` is what is compared. ``entropy_<source>`` and ``entropy_target`` are the
    mean entropies of the encoders' softmaxes: whether a source is near because its softmax is flat.

    Args:
        near: the `distances` of the sources, ``[M]``.
        embed, source_embeds: see `alignment_losses`.

    Returns:
        Scalars, nats; an entropy is at most ``log E``.
    """
    every = jnp.concatenate([source_embeds, embed[..., None, :]], axis=-2)
    entropy = jnp.mean(categorical_entropy(jax.lax.stop_gradient(every)), axis=(0, 1))
    found = {f"distance_{name}": near[i] for i, name in enumerate(coworld.names)}
    return found | {
        f"entropy_{name}": entropy[i] for i, name in enumerate([*coworld.names, TARGET])
    }


def target_update(
    coworld: CoWorld,
    state: CoWorldState,
    batch: Batch,
    key: jax.Array,
    axis_name: str | None = None,
    *,
    behavior: bool = True,
) -> tuple[CoupledState, Metrics]:
    """One update of the target agent, with coupling A and, for its critic, coupling C.

    Among several sources the one with the smallest coupling-A distance on the batch gives both
    couplings (Appendix C), or the one chosen for the phase (`CoWorldState.distances`).

    Args:
        state: its target is updated; its sources are only read.
        batch: from the offline dataset, ``[T, B, ...]``.
        key: consumed.
        behavior: False updates the world model alone (the warm-up).

    Returns:
        The new state of the target and metrics. **Gradient:** the target's own parameters.
    """
    coupling, several = coworld.coupling, len(coworld.sources) > 1
    key_model, key_behavior = jax.random.split(key)
    # Among several the nearest is chosen by this batch, unless one was for the whole phase.
    by_batch, chosen = several, jnp.zeros((), jnp.int32)
    if state.distances is not None:
        by_batch, chosen = False, jnp.argmin(state.distances)
    embeds = batch.embed
    if embeds is None:
        embeds = compared_embeds(coworld, state, batch.image)

    def terms(params: Params, seen: Observation, *_: object) -> Terms:
        others = embeds.astype(jnp.float32)
        every, logged = alignment_losses(seen.embed, others), {}
        aligned = every[0]
        if by_batch:
            near = distances(every, axis_name)
            aligned = every[jnp.argmin(near)]
            logged = selection_metrics(coworld, near, seen.embed, others)
        if coupling.state_alignment:
            return Terms({"alignment": aligned}, logged=logged)
        # Measured all the same: what a run with coupling A is compared with.
        return Terms(logged=logged | {"alignment": jax.lax.stop_gradient(aligned)})

    weights = {"alignment": coupling.alignment_scale} if coupling.state_alignment else {}
    target, seen, metrics = update_world_model(
        coworld.target, state.target, batch, key_model, ModelExtra(terms, weights), axis_name
    )
    if by_batch:
        near = [metrics[f"model/distance_{name}"] for name in coworld.names]
        chosen = jnp.argmin(jnp.stack(near))
    if several:
        picked = jax.nn.one_hot(chosen, len(coworld.names))
        metrics |= {f"chosen/{name}": picked[i] for i, name in enumerate(coworld.names)}
    if not behavior:
        return target, metrics
    critic = chosen_of([source.critic for source in state.sources], chosen)
    target, behavior_metrics = update_behavior(
        coworld.target,
        target,
        seen.post,
        batch.discount,
        key_behavior,
        value_constraint(coworld, critic),
        axis_name,
    )
    return target, metrics | behavior_metrics


def value_constraint(coworld: CoWorld, source_critic: Params) -> BehaviorExtra:
    """Coupling C as a term of the target critic's loss.

    Args:
        source_critic: parameters of the source's critic, which reads the target's features.
    """
    coupling, critic = coworld.coupling, coworld.sources[0].critic

    def terms(params: Params, imagined: Imagined, value: jax.Array) -> Terms:
        source_value = critic.apply(source_critic, imagined.feat)
        logged = {
            "source_value": source_value,
            "above_source": (value > source_value).astype(jnp.float32),
        }
        if not coupling.value_constraint:
            return Terms(logged=logged)
        constraint = losses.value_constraint_loss(
            value, source_value, imagined.weight, use_max=coupling.constraint_max
        )
        return Terms(added={"constraint": constraint}, logged=logged)

    scale = coupling.value_constraint_scale
    return BehaviorExtra(terms, {"constraint": scale} if coupling.value_constraint else {})


def select_update(
    coworld: CoWorld,
    state: CoWorldState,
    batch: Batch,
    count: jax.Array,
    axis_name: str | None = None,
) -> tuple[CoWorldState, Metrics]:
    """Measure the distance of every source on one more batch; nothing is learnt.

    Args:
        count: batches measured before in this phase; their mean is in ``state.distances``.
    """
    image = world_model.normalise_image(batch.image)
    embed = world_model.encode(coworld.target.model, state.target.world_model, image)
    models = [source.world_model for source in state.sources]
    others = embed_by_sources(coworld, models, batch.image)
    near = distances(alignment_losses(embed, others), axis_name)
    assert state.distances is not None
    mean = jnp.where(count == 0, 0.0, state.distances)
    mean = mean + (near - mean) / (count + 1)
    logged = averaged(selection_metrics(coworld, near, embed, others), axis_name)
    return replace(state, distances=mean), prefixed("model", logged)
