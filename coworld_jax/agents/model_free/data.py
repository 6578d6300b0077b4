"""From chunks of episodes to transitions, and the random numbers of an update.

Each chunk gives one transition. It holds the frames of the first stack, then the n steps.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from coworld_jax import augment
from coworld_jax.agents.model_free.actor_critic import PAD, Draws, Transitions
from coworld_jax.agents.model_free.cql import CandidateDraws
from coworld_jax.agents.model_free.curl import CurlDraws
from coworld_jax.agents.model_free.settings import FramesConfig
from coworld_jax.agents.noise import example_noise
from coworld_jax.types import Batch


def chunk_length(frames: FramesConfig, n_step: int = 1) -> int:
    """Rows that one transition is made of."""
    return frames.stack + n_step


def enlarge(frames: FramesConfig, image: jax.Array) -> jax.Array:
    """Frames of ``image_size``: uint8 ``[..., 64, 64, 3] -> [..., S, S, 3]``; bicubic."""
    if frames.image_size == image.shape[-2]:
        return image
    return augment.resize_bicubic(image, frames.image_size)


def transitions(
    batch: Batch, frames: FramesConfig, n_step: int = 1, discount: float = 1.0
) -> Transitions:
    """The transition that begins at row ``stack - 1`` of each chunk.

    Row t of a chunk holds the action and the reward that led to its frame, so that the action is
    that of row ``stack``, and the rewards are those of the n rows from there.

    Args:
        batch: chunks of `chunk_length` rows, ``[T, B, ...]``.
        discount: ``γ`` per step.

    Returns:
        Stacks uint8 ``[B, S, S, 3 * stack]``, oldest frame first, and what `augment.n_step` makes
        of the rewards.
    """
    stack = frames.stack
    image = jnp.moveaxis(enlarge(frames, batch.image), 0, 1)
    rewards, discounts = batch.reward[stack:].T, batch.discount[stack:].T
    reward, last = augment.n_step(rewards, discounts, discount, n_step)
    return Transitions(
        obs=augment.stack_channels(image[:, :stack]),
        action=batch.action[stack],
        reward=reward,
        discount=last,
        next_obs=augment.stack_channels(image[:, n_step:]),
    )


def draw(key: jax.Array, batch: int, action_size: int, axis_name: str | None = None) -> Draws:
    """Random numbers of DrQ+BC, CQL and BC; ``key`` is consumed.

    Args:
        batch: transitions, the share of one device under a mapped axis.
    """
    shift, next_shift, target, actor = jax.random.split(key, 4)
    offset = functools.partial(jax.random.randint, minval=0, maxval=2 * PAD + 1)
    return Draws(
        shift=example_noise(offset, shift, (), batch, (2,), axis_name),
        next_shift=example_noise(offset, next_shift, (), batch, (2,), axis_name),
        target=example_noise(jax.random.normal, target, (), batch, (action_size,), axis_name),
        actor=example_noise(jax.random.normal, actor, (), batch, (action_size,), axis_name),
    )


def draw_candidates(
    key: jax.Array, batch: int, candidates: int, action_size: int, axis_name: str | None = None
) -> CandidateDraws:
    """Random numbers of CQL's candidate actions; ``key`` is consumed.

    Args:
        batch: transitions, the share of one device under a mapped axis.
        candidates: of each kind.
    """
    keys, shape = jax.random.split(key, 3), (candidates, action_size)
    uniform = functools.partial(jax.random.uniform, minval=-1.0, maxval=1.0)
    return CandidateDraws(
        random=example_noise(uniform, keys[0], (), batch, shape, axis_name),
        current=example_noise(jax.random.normal, keys[1], (), batch, shape, axis_name),
        next=example_noise(jax.random.normal, keys[2], (), batch, shape, axis_name),
    )


def draw_windows(
    key: jax.Array, batch: int, margin: int, action_size: int, axis_name: str | None = None
) -> CurlDraws:
    """Random numbers of CURL; ``key`` is consumed.

    Args:
        batch: transitions, the share of one device under a mapped axis.
        margin: pixels by which frames exceed windows; a corner lies in ``0 ... margin - 1``, as in
            the official code.
    """
    *corners, target, actor = jax.random.split(key, 5)
    corner = functools.partial(jax.random.randint, minval=0, maxval=margin)
    obs, next_obs, positive = (
        example_noise(corner, one, (), batch, (2,), axis_name) for one in corners
    )
    return CurlDraws(
        obs=obs,
        next_obs=next_obs,
        positive=positive,
        target=example_noise(jax.random.normal, target, (), batch, (action_size,), axis_name),
        actor=example_noise(jax.random.normal, actor, (), batch, (action_size,), axis_name),
    )
