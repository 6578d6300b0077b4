"""What a phase reads of every image of the dataset, computed once as the phase begins.

A frozen encoder gives the same embedding of an image in each update of a phase. With
``run.embeddings = "phase"`` the whole dataset is embedded before the first of them
(`method.Phase.embeds`), and batches bring their embeddings along. A run that goes on within a phase
embeds the dataset again, with the parameters that have not changed since.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from coworld_jax import parallel
from coworld_jax.data import format_bytes
from coworld_jax.method import Method, State
from coworld_jax.store import EpisodeStore
from coworld_jax.training.plan import Learn

BLOCK = 256  # images that are embedded in one call
_SAY_EVERY = 30.0  # seconds


class PhaseEmbeddings:
    """The dataset, with what the phase at hand embeds of its images.

    Args:
        method: says what is embedded.
        mesh: devices that hold the dataset, or None for a single one.
        say: shows a line to the user.
    """

    def __init__(
        self, method: Method, mesh: parallel.Mesh | None, say: Callable[[str], None]
    ) -> None:
        self._method = method
        self._mesh = mesh
        self._say = say
        self._embed: jax.Array | None = None  # of the phase at hand

    def joined(self, store: EpisodeStore, learnt: State, event: Learn) -> EpisodeStore:
        """``store`` with the embeddings of the event's phase, where it has any.

        Args:
            store: the dataset, resident.
            learnt: state before the event.
        """
        name = event.phase.embeds
        if not name:
            self._embed = None
            return store
        if self._embed is None or event.done == 0:
            self._embed = None  # its memory is free before the next is made
            image = parallel.on_host(store.image)
            self._say(f"Embedding {len(image):,} images of the data for {event.phase.name}.")
            embed = embed_images(
                self._method.embeddings[name], parallel.on_host(learnt), image, self._say
            )
            self._say(f"Their embeddings take {format_bytes(embed.nbytes)}.")
            self._embed = parallel.replicate(embed, self._mesh)
        return store._replace(embed=self._embed)


def embed_images(
    embed: Callable[[State, jax.Array], jax.Array],
    learnt: State,
    image: jax.Array,
    say: Callable[[str], None],
) -> jax.Array:
    """``embed(learnt, image)`` for all rows, block by block: ``[rows, ...]``.

    Args:
        image: uint8 ``[rows, height, width, 3]``.
        say: shows how far it is, every half minute.
    """
    rows, block = len(image), min(BLOCK, len(image))

    @jax.jit
    def of_block(learnt: State, image: jax.Array, first: jax.Array) -> jax.Array:
        return embed(learnt, jax.lax.dynamic_slice_in_dim(image, first, block))

    shape = jax.eval_shape(of_block, learnt, image, jnp.int32(0))
    put = jax.jit(
        lambda all_, new, first: jax.lax.dynamic_update_slice_in_dim(all_, new, first, 0),
        donate_argnums=0,
    )
    found, told = jnp.zeros((rows, *shape.shape[1:]), shape.dtype), time.monotonic()
    for start in range(0, rows, block):
        first = jnp.int32(min(start, rows - block))  # the last block overlaps the one before
        found = put(found, of_block(learnt, image, first), first)
        if time.monotonic() - told > _SAY_EVERY:
            told = time.monotonic()
            say(f"Embedded {min(start + block, rows):,} of {rows:,} images.")
    return found
