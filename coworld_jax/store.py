"""Episodes on the device, as uint8, and the pure function that samples chunks of them.

A store is a pytree: it can be an argument of a jitted scan, so that no batch ever visits the host.
The same record serves a fixed dataset (episodes laid end to end) and a replay that grows in
equal slots; ``episodes`` and ``lengths`` are arrays, so that growth compiles nothing again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from coworld_jax.types import Batch, Episode


class EpisodeStore(NamedTuple):
    """Rows of many episodes, and where each episode lies among them."""

    image: jax.Array  # uint8 [rows, 64, 64, 3]
    action: jax.Array  # float32 [rows, A]
    reward: jax.Array  # float32 [rows]
    discount: jax.Array  # float32 [rows]
    state: jax.Array  # float32 [rows, N]; N = 0 where nobody reads it
    starts: jax.Array  # int32 [episodes], first row of each episode
    lengths: jax.Array  # int32 [episodes], its rows
    episodes: jax.Array  # int32 [], episodes in use; the rest are empty slots
    embed: jax.Array | None = None  # [rows, ...], what a phase has embedded of the images


def init_store(
    slots: int, rows: int, action_size: int, image_size: int = 64, state_size: int = 0
) -> EpisodeStore:
    """An empty replay of ``slots`` episodes of at most ``rows`` rows each."""
    return EpisodeStore(
        image=jnp.zeros((slots * rows, image_size, image_size, 3), jnp.uint8),
        action=jnp.zeros((slots * rows, action_size), jnp.float32),
        reward=jnp.zeros((slots * rows,), jnp.float32),
        discount=jnp.ones((slots * rows,), jnp.float32),
        state=jnp.zeros((slots * rows, state_size), jnp.float32),
        starts=jnp.arange(slots, dtype=jnp.int32) * rows,
        lengths=jnp.zeros((slots,), jnp.int32),
        episodes=jnp.zeros((), jnp.int32),
    )


def write_episode(
    store: EpisodeStore, episode: Batch, slot: jax.Array, length: jax.Array
) -> EpisodeStore:
    """``store`` with ``episode`` in ``slot``; jit it with ``donate_argnums=0`` to write in place.

    Args:
        store: a replay made by `init_store`.
        episode: fields ``[rows, ...]``, padded to the rows of a slot (no batch axis).
        slot: int32 ``[]``; a full replay reuses the oldest slot, ``index % slots``.
        length: int32 ``[]``, rows of the episode before padding.
    """
    start = store.starts[slot]

    def put(rows: jax.Array, new: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice_in_dim(rows, new.astype(rows.dtype), start, 0)

    return store._replace(
        image=put(store.image, episode.image),
        action=put(store.action, episode.action),
        reward=put(store.reward, episode.reward),
        discount=put(store.discount, episode.discount),
        state=put(store.state, episode.state),
        lengths=store.lengths.at[slot].set(length),
        episodes=jnp.maximum(store.episodes, slot + 1),
    )


def pad_episode(episode: Episode, rows: int, state_size: int = 0) -> Batch:
    """``episode`` padded with zeros to ``rows`` rows, ready for `write_episode`.

    Args:
        state_size: of the store; unless 0, the extras of the episode hold a ``state`` of that size.

    Raises:
        ValueError: the episode has more rows than a slot.
    """
    length = len(episode.reward)
    if length > rows:
        raise ValueError(f"An episode of {length} rows does not fit a replay slot of {rows} rows.")

    def pad(value: np.ndarray) -> Any:
        return np.pad(value, [(0, rows - length)] + [(0, 0)] * (value.ndim - 1))

    state = episode.extras["state"] if state_size else np.zeros((length, 0), np.float32)
    return Batch(*(pad(value) for value in (*episode[:4], state)))


def sample_rows(
    starts: jax.Array,
    lengths: jax.Array,
    count: jax.Array,
    key: jax.Array,
    time: int,
    batch: int,
    before: int = 0,
) -> jax.Array:
    """Row indices of ``batch`` chunks: an episode uniformly, then a start uniformly within it.

    No chunk crosses an episode. Every episode in use must have at least ``time`` rows: loaders and
    replays refuse shorter ones. The result is a pure function of the table and the key, so that a
    resumed run, another host or a streamed feed sees the same batches.

    Args:
        before: rows by which a chunk may begin before its episode; they repeat the first row.

    Returns:
        int32 ``[time, batch]``.
    """
    key_episode, key_start = jax.random.split(key)
    episode = jax.random.randint(key_episode, (batch,), 0, count)
    start = jax.random.randint(key_start, (batch,), -before, lengths[episode] - time + 1)
    rows = start[None, :] + jnp.arange(time, dtype=jnp.int32)[:, None]
    return starts[episode][None, :] + jnp.maximum(rows, 0)


def draw_rows(
    store: EpisodeStore, key: jax.Array, time: int, batch: int, before: int = 0
) -> jax.Array:
    """`sample_rows` of the episodes of a store."""
    return sample_rows(store.starts, store.lengths, store.episodes, key, time, batch, before)


@jax.named_scope("sample")
def read_rows(store: EpisodeStore, rows: jax.Array, axis_name: str | None = None) -> Batch:
    """Rows ``[T, B]`` of a store, time-major; images stay uint8.

    Under a mapped axis each device reads its share of the B chunks.
    """
    chex.assert_rank([store.image, store.action, store.reward], [4, 2, 1])
    if axis_name is not None:
        share = rows.shape[1] // jax.lax.axis_size(axis_name)
        first = jax.lax.axis_index(axis_name) * share
        rows = jax.lax.dynamic_slice_in_dim(rows, first, share, axis=1)
    return Batch(
        store.image[rows],
        store.action[rows],
        store.reward[rows],
        store.discount[rows],
        store.state[rows],
        None if store.embed is None else store.embed[rows],
    )
