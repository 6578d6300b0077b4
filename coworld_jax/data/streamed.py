"""Batches of a dataset that stays on the host, because the device has no room for it."""

from __future__ import annotations

import functools
from concurrent.futures import Future, ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np

from coworld_jax import parallel
from coworld_jax.data.directory import Dataset
from coworld_jax.store import sample_rows
from coworld_jax.types import Batch


class StreamedFeed:
    """Gathers on the host exactly the rows that `store.draw_rows` draws on the device.

    Of several hosts, each gathers the chunks of its own devices.

    Args:
        dataset: stays in memory as it is.
        length: T, rows of a chunk.
        batch: B, chunks of an update.
        action_size: of the agent; surplus coordinates are zeros.
        before: see `store.sample_rows`.
        mesh: devices that share each batch, or None for a single one.

    Raises:
        ValueError: the files have more action coordinates than ``action_size``.
    """

    def __init__(
        self,
        dataset: Dataset,
        length: int,
        batch: int,
        action_size: int,
        before: int = 0,
        mesh: parallel.Mesh | None = None,
    ) -> None:
        self._mesh = mesh
        self._columns = parallel.columns(batch)
        self._arrays = (
            dataset.image,
            dataset.padded_action(action_size),
            dataset.reward,
            dataset.discount,
            np.zeros((len(dataset.reward), 0), np.float32),  # state: the target is seen, not read
        )
        sample = functools.partial(
            sample_rows,
            jnp.asarray(dataset.starts),
            jnp.asarray(dataset.lengths),
            jnp.int32(len(dataset.lengths)),
            time=length,
            batch=batch,
            before=before,
        )
        self._rows = jax.jit(jax.vmap(sample))
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="streamed-feed")
        self._ahead: tuple[np.ndarray, Future[Batch]] | None = None

    def batches(self, keys: jax.Array) -> Batch:
        """Batches for sampling keys ``[K]``: ``[K, T, B, ...]``.

        Args:
            keys: those of the updates, as `training.scan.update_keys` makes them.
        """
        rows = np.asarray(self._rows(keys))
        ahead, self._ahead = self._ahead, None
        if ahead is not None and np.array_equal(ahead[0], rows):
            return ahead[1].result()
        return self._gather(rows)

    def prefetch(self, keys: jax.Array) -> None:
        """Begin to gather, in the background, what `batches` will be asked for next.

        A wrong guess costs time and nothing else.
        """
        rows = np.asarray(self._rows(keys))
        self._ahead = rows, self._thread.submit(self._gather, rows)

    def close(self) -> None:
        """End the background thread."""
        self._thread.shutdown(cancel_futures=True)

    def _gather(self, rows: np.ndarray) -> Batch:
        own = rows[:, :, self._columns]
        return Batch(*(parallel.share_columns(array[own], self._mesh) for array in self._arrays))
