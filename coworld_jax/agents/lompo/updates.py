"""The updates of LOMPO: of its model, of its two buffers, and of the agent that learns from them.

Under a mapped axis each device encodes its share of the chunks. All devices then write all
sequences, so that every device holds the same buffers.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from coworld_jax.agents import ensemble
from coworld_jax.agents.dreamer.world_model import Observation, normalise_image
from coworld_jax.agents.gradient import (
    Params,
    apply_gradient,
    averaged,
    prefixed,
    term_means,
    weighted_sum,
)
from coworld_jax.agents.lompo import buffer
from coworld_jax.agents.lompo.agent import Lompo, LompoState
from coworld_jax.agents.lompo.buffer import Ring, Sequences
from coworld_jax.agents.lompo.model import (
    ModelDraws,
    StepDraws,
    encode,
    imagine_steps,
    model_terms,
)
from coworld_jax.agents.model_free import Transitions, update_features
from coworld_jax.agents.noise import example_noise
from coworld_jax.types import Batch, Latent, Metrics


class Rows(NamedTuple):
    """How many random vectors a draw needs: for ``time`` rows of each of ``batch`` chunks."""

    time: int
    batch: int  # of this device


def normal_noise(
    lompo: Lompo, key: jax.Array, steps: int, rows: Rows, size: int, axis_name: str | None
) -> jax.Array:
    """Standard normal noise of latents, ``[steps, time * batch, size]``.

    With ``imagination.shared_noise`` all rows of a step have one vector.
    """
    count = rows.time * rows.batch
    if lompo.imagination.shared_noise:
        one = jax.random.normal(key, (steps, 1, size))
        return jnp.broadcast_to(one, (steps, count, size))
    return row_noise(key, steps, rows, size, axis_name)


def row_noise(
    key: jax.Array, steps: int, rows: Rows, size: int, axis_name: str | None
) -> jax.Array:
    """Standard normal noise, ``[steps, time * batch, size]``; each chunk has a key of its own."""
    each = (steps * rows.time,)
    noise = example_noise(jax.random.normal, key, each, rows.batch, (size,), axis_name)
    return noise.reshape(steps, rows.time * rows.batch, size)


def model_draws(lompo: Lompo, key: jax.Array, batch: Batch, axis_name: str | None) -> ModelDraws:
    """Heads and noise of one pass over a batch; ``key`` is consumed."""
    time, chunks = batch.reward.shape
    key_heads, key_noise = jax.random.split(key)
    rssm = lompo.model.rssm
    noise = normal_noise(lompo, key_noise, time, Rows(1, chunks), rssm.groups, axis_name)
    return ModelDraws(ensemble.draw_heads(rssm, key_heads, time), noise)


def update_model(
    lompo: Lompo, state: LompoState, batch: Batch, key: jax.Array, axis_name: str | None = None
) -> tuple[LompoState, Metrics]:
    """One gradient step on the model; ``key`` is consumed."""
    draws = model_draws(lompo, key, batch, axis_name)
    image = normalise_image(batch.image)

    def loss(params: Params) -> tuple[jax.Array, Metrics]:
        terms, _ = model_terms(params, lompo.model, image, batch.action, batch.reward, draws)
        means = term_means(terms)
        return weighted_sum(means, dict.fromkeys(means, 1.0)), means

    (total, metrics), grads = jax.value_and_grad(loss, has_aux=True)(state.model)
    grads, metrics = averaged((grads, metrics | {"loss": total}), axis_name)
    model, model_opt, metrics["grad_norm"] = apply_gradient(
        lompo.model_optimizer, grads, state.model_opt, state.model
    )
    return state._replace(model=model, model_opt=model_opt), prefixed("model", metrics)


def filtered(
    lompo: Lompo, state: LompoState, batch: Batch, key: jax.Array, axis_name: str | None
) -> Observation:
    """The states of a batch of chunks; ``key`` is consumed by their samples."""
    model, params = lompo.model, state.model
    draws = model_draws(lompo, key, batch, axis_name)
    embed = encode(model, params, normalise_image(batch.image))
    first = jnp.zeros(batch.reward.shape, bool)
    return ensemble.observe(
        model.rssm, params["rssm"], embed, batch.action, first, draws.heads, draws.noise
    )


def update_real(
    lompo: Lompo, state: LompoState, batch: Batch, key: jax.Array, axis_name: str | None = None
) -> tuple[LompoState, Metrics]:
    """Write a batch of chunks, encoded, into the real buffer; ``key`` is consumed."""
    seen = filtered(lompo, state, batch, key, axis_name)
    real = _write_chunks(state.real, seen, batch, axis_name)
    return state._replace(real=real), {"buffer/real_steps": _steps(real)}


def update_imagined(
    lompo: Lompo, state: LompoState, batch: Batch, key: jax.Array, axis_name: str | None = None
) -> tuple[LompoState, Metrics]:
    """Write rollouts from all states of a batch into the buffer of imagined steps.

    Args:
        key: consumed.
    """
    key_seen, key_made = jax.random.split(key)
    seen = filtered(lompo, state, batch, key_seen, axis_name)
    imagined, metrics = _write_rollouts(lompo, state, seen.post, key_made, axis_name)
    return state._replace(imagined=imagined), metrics | {"buffer/imagined_steps": _steps(imagined)}


def update_agent(
    lompo: Lompo,
    state: LompoState,
    batch: Batch,
    key: jax.Array,
    count: jax.Array,
    axis_name: str | None = None,
) -> tuple[LompoState, Metrics]:
    """One update of actor and critics on both buffers; at times both get new sequences after it.

    Args:
        batch: looked at when the buffers are due.
        key: consumed.
        count: updates of the agent made before, int32 ``[]``; after every
            ``buffers.refresh_every``-th the batch is encoded, and rolled out from.
    """
    key_real, key_imagined, key_refresh = jax.random.split(key, 3)
    learning = lompo.learning
    real, imagined = (
        buffer.sample(ring, drawn, learning.agent_batch, learning.discount, axis_name)
        for ring, drawn in ((state.real, key_real), (state.imagined, key_imagined))
    )
    both = Transitions(*(jnp.concatenate(pair) for pair in zip(real, imagined, strict=True)))
    agent, trace = update_features(lompo.agent, state.agent, both, axis_name)
    state = state._replace(agent=agent)

    def refresh(rings: tuple[Ring, Ring]) -> tuple[Ring, Ring]:
        key_seen, key_made = jax.random.split(key_refresh)
        seen = filtered(lompo, state, batch, key_seen, axis_name)
        made, _ = _write_rollouts(
            lompo, state._replace(imagined=rings[1]), seen.post, key_made, axis_name
        )
        return _write_chunks(rings[0], seen, batch, axis_name), made

    due = (count + 1) % lompo.buffers.refresh_every == 0
    rings = jax.lax.cond(due, refresh, lambda rings: rings, (state.real, state.imagined))
    values = {
        "critic/loss": trace.values["critic_loss"],
        "critic/q": trace.values["q"],
        "actor/loss": trace.values["actor_loss"],
        "actor/real_reward": real.reward,
        "actor/imagined_reward": imagined.reward,
    }
    metrics = averaged(term_means(values), axis_name)
    return state._replace(real=rings[0], imagined=rings[1]), metrics


def _write_chunks(ring: Ring, seen: Observation, batch: Batch, axis_name: str | None) -> Ring:
    """The steps from each row of a chunk to the next."""
    chunks = Sequences(seen.feat, batch.action[1:], batch.reward[1:])
    chunks = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), chunks)
    return buffer.write(ring, jax.tree.map(lambda x: _gathered(x, 0, axis_name), chunks))


def _write_rollouts(
    lompo: Lompo, state: LompoState, post: Latent, key: jax.Array, axis_name: str | None
) -> tuple[Ring, Metrics]:
    """Rollouts of the actor from every state of ``post``, ``[T, B, ...]``."""
    key_heads, key_latent, key_action = jax.random.split(key, 3)
    model, horizon = lompo.model, lompo.imagination.horizon
    rows = Rows(*post.deter.shape[:2])
    action = row_noise(key_action, horizon, rows, lompo.action_size, axis_name)
    draws = StepDraws(
        heads=ensemble.draw_heads(model.rssm, key_heads, horizon),
        latent=normal_noise(lompo, key_latent, horizon, rows, model.rssm.groups, axis_name),
        # Coordinates that the simulator does not take stay zero.
        action=action.at[..., lompo.taken :].set(0.0),
    )
    start = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), post)
    made = imagine_steps(model, state.model, lompo.agent.actor, state.agent.actor, start, draws)
    feat = jnp.concatenate([made.obs, made.next_obs[-1:]])
    metrics = {
        "buffer/imagined_reward": made.plain_reward,
        "buffer/penalty": made.penalty,
    }

    def by_rollout(x: jax.Array) -> jax.Array:
        """``[H, T * B, ...]`` to ``[T * B, H, ...]``, B over all devices."""
        apart = jnp.moveaxis(x.reshape(x.shape[0], *rows, *x.shape[2:]), 0, 2)
        whole = _gathered(apart, 1, axis_name)
        return whole.reshape(-1, *whole.shape[2:])

    rollouts = jax.tree.map(by_rollout, Sequences(feat, made.action, made.reward))
    return buffer.write(state.imagined, rollouts), averaged(term_means(metrics), axis_name)


def _gathered(x: jax.Array, axis: int, axis_name: str | None) -> jax.Array:
    """The shares of all devices, one after the other along ``axis``."""
    return x if axis_name is None else jax.lax.all_gather(x, axis_name, axis=axis, tiled=True)


def _steps(ring: Ring) -> jax.Array:
    """Steps that a ring holds, float32 ``[]``."""
    return (ring.filled * ring.rows.reward.shape[1]).astype(jnp.float32)
