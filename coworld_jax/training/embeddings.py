"""What a phase reads of every image of the dataset, computed once as the phase begins.

A frozen encoder gives the same embedding of an image in each update of a phase. With
``run.embeddings = "phase"`` the whole dataset is embedded before the first of them
(`method.Phase.embeds`), and batches bring their embeddings along. A run that goes on within a phase
embeds the dataset again, with the parameters that have not changed since.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from coworld_jax import parallel
from coworld_jax.config import RunConfig
from coworld_jax.data import format_bytes
from coworld_jax.method import Method, Phase, State
from coworld_jax.store import EpisodeStore
from coworld_jax.training.plan import Learn

BLOCK = 64  # images that are embedded in one call: a batch of R3M's has 32, of 256 pixels
_SAY_EVERY = 30.0  # seconds


def embeds_once(plan: Sequence[Phase], run: RunConfig) -> bool:
    """Whether the dataset is embedded as a phase of the plan begins."""
    return run.embeddings == "phase" and any(phase.embeds for phase in plan)


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
        self._mesh = mesh
        self._say = say
        self._functions = {name: jax.jit(embed) for name, embed in method.embeddings.items()}
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
            embed, here = self._functions[name], parallel.on_host(learnt)
            one = jax.eval_shape(embed, here, image[:1])
            size = format_bytes(len(image) * one.size * one.dtype.itemsize)
            self._say(
                f"Embedding {len(image):,} images of the data for {event.phase.name}: {size}."
            )
            found = embed_images(embed, here, image, self._say)
            self._embed = parallel.lend(found, self._mesh)
        return store._replace(embed=self._embed)


def embed_images(
    embed: Callable[[State, jax.Array], jax.Array],
    learnt: State,
    image: jax.Array,
    say: Callable[[str], None],
) -> jax.Array:
    """``embed(learnt, image)`` for all rows, block by block: ``[rows, ...]``.

    Args:
        embed: compiled for a block.
        image: uint8 ``[rows, height, width, 3]``.
        say: shows how far it is, every half minute.
    """
    rows, block = len(image), min(BLOCK, len(image))
    shape = jax.eval_shape(embed, learnt, image[:block])
    found, told = jnp.zeros((rows, *shape.shape[1:]), shape.dtype), time.monotonic()
    for start in range(0, rows, block):
        first = min(start, rows - block)  # the last block overlaps the one before
        new = embed(learnt, jax.lax.dynamic_slice_in_dim(image, first, block))
        found = jax.block_until_ready(_put(found, new, np.int32(first)))
        if time.monotonic() - told > _SAY_EVERY:
            told = time.monotonic()
            say(f"Embedded {min(start + block, rows):,} of {rows:,} images.")
    return found


@functools.partial(jax.jit, donate_argnums=0)
def _put(rows: jax.Array, new: jax.Array, first: jax.Array) -> jax.Array:
    return jax.lax.dynamic_update_slice_in_dim(rows, new, first, 0)
