"""A replay of whole episodes: files on the disk, rows on the device."""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from coworld_jax import parallel
from coworld_jax.data.episodes import IMAGE_SHAPE, row_bytes
from coworld_jax.data.faults import DataError
from coworld_jax.data.memory import available_bytes, format_bytes
from coworld_jax.data.shared import EpisodeFiles
from coworld_jax.store import EpisodeStore, init_store, pad_episode, write_episode
from coworld_jax.types import Episode

_write_in_place = functools.partial(jax.jit, donate_argnums=0)(write_episode)


class Replay:
    """The episodes of one source, in the order in which they were appended.

    Every episode becomes a file of ``directory``, which host 0 keeps (`EpisodeFiles`). The latest
    ``slots`` of those that have the rows of a chunk lie in the store; shorter ones are counted and
    never sampled, as in DreamerV2. Files are never deleted while a run goes on, for an older
    checkpoint may name them.

    Args:
        directory: of this replay alone; made when missing.
        slots: episodes that the store holds; the oldest makes room for the newest.
        rows: of a slot, steps + 1 of the longest episode.
        action_size: of the store; episodes with fewer coordinates get zeros in the others.
        minimum_rows: of an episode in the store, so that a chunk fits into it (`store.sample`).
        state_size: of the store; 0 leaves the states of the episodes to their files.
        mesh: devices whose programs read the store, or None for a single one.

    Attributes:
        files: the episodes' files.
        returns: undiscounted return of every episode appended, in order, short ones included.

    Raises:
        ValueError: the store would not fit into memory.
    """

    def __init__(
        self,
        directory: Path | str,
        slots: int,
        rows: int,
        action_size: int,
        minimum_rows: int = 1,
        state_size: int = 0,
        mesh: parallel.Mesh | None = None,
    ) -> None:
        self.slots, self.rows, self.action_size = slots, rows, action_size
        self.state_size = state_size
        self._minimum_rows = minimum_rows
        self.returns: list[float] = []
        self._files: list[str] = []
        self._lengths: list[int] = []  # rows of each file
        self._mesh = mesh
        need, free = slots * rows * row_bytes(action_size, state_size), available_bytes()
        if need > free:
            raise ValueError(
                f"The replay {directory} needs {format_bytes(need)} for {slots} episodes of "
                f"{rows} rows, but {format_bytes(free)} of memory are free: lower "
                "schedule.replay_episodes."
            )
        self.files = EpisodeFiles(directory)
        store = init_store(slots, rows, action_size, IMAGE_SHAPE[0], state_size)
        self._store: EpisodeStore | None = parallel.keep(store, mesh)

    @property
    def store(self) -> EpisodeStore:
        """As programs of the mesh read it; ask again after `append`, which may overwrite it."""
        return parallel.show(self._kept, self._mesh)

    @property
    def _kept(self) -> EpisodeStore:
        assert self._store is not None, "the store is in other hands, see hand_over"
        return self._store

    @property
    def appended(self) -> int:
        """Episodes appended so far, those that the store has forgotten included."""
        return len(self._files)

    @property
    def usable(self) -> int:
        """Episodes appended so far that have the rows of a chunk, forgotten ones included."""
        return sum(rows >= self._minimum_rows for rows in self._lengths)

    @property
    def count(self) -> int:
        """Episodes in the store, among which batches are drawn."""
        return min(self.usable, self.slots)

    def append(self, episode: Episode, name: str) -> None:
        """Write ``episode`` to the disk as ``name``.npz and, if a chunk fits, into the store.

        Raises:
            ValueError: it has more rows or more action coordinates than a slot.
        """
        self._check(episode, name)
        file = self.files.save(episode, name)
        rows = len(episode.reward)
        if rows >= self._minimum_rows and self._store is not None:
            self._write(episode, self.usable % self.slots)
        self._files.append(file)
        self._lengths.append(rows)
        self.returns.append(_return(episode))

    def hand_over(self) -> EpisodeStore:
        """Give the store away: from now on `append` writes files, and its owner writes the rows."""
        store, self._store = self._kept, None
        return store

    def take_back(self, store: EpisodeStore) -> None:
        """The store that was given away, with the rows of all episodes appended since."""
        self._store = parallel.keep(store, self._mesh)

    def manifest(self) -> list[dict[str, Any]]:
        """What `restore` needs to know, for JSON: each file, and the return and rows in it."""
        columns = zip(self._files, self.returns, self._lengths, strict=True)
        return [{"file": file, "return": value, "rows": rows} for file, value, rows in columns]

    def restore(self, manifest: Sequence[dict[str, Any]], keep: Collection[str] = ()) -> None:
        """Go back to the episodes of ``manifest``; delete all other files of the directory.

        Args:
            manifest: made by `manifest`, possibly in another process.
            keep: names of further files that stay.

        Raises:
            DataError: a file is missing, damaged, or not the one that was appended.
        """
        none = jnp.zeros(self._kept.lengths.shape, self._kept.lengths.dtype)
        emptied = self._kept._replace(lengths=none, episodes=jnp.int32(0))
        self._store = parallel.keep(emptied, self._mesh)
        usable = [entry for entry in manifest if entry["rows"] >= self._minimum_rows]
        first = max(len(usable) - self.slots, 0)
        for index, entry in enumerate(usable[first:], first):
            episode = self.files.load(entry["file"])
            path = self.files.directory / entry["file"]
            self._check(episode, path.stem)
            if _return(episode) != entry["return"]:
                reason = "sums to another return than when it was collected"
                raise DataError.of(path, "reward", reason)
            self._write(episode, index % self.slots)
        self._files = [entry["file"] for entry in manifest]
        self.returns = [entry["return"] for entry in manifest]
        self._lengths = [entry["rows"] for entry in manifest]
        # Nothing is deleted before everything has been read.
        self.files.keep_only({*self._files, *keep})

    def _check(self, episode: Episode, name: str) -> None:
        rows, action_size = episode.action.shape
        if rows > self.rows or action_size > self.action_size:
            raise ValueError(
                f"Episode {name} has {rows} rows and {action_size} action coordinates, but a slot "
                f"of {self.files.directory} takes {self.rows} and {self.action_size}."
            )
        found = list(episode.extras["state"].shape) if "state" in episode.extras else "none"
        if self.state_size and found != [rows, self.state_size]:
            raise ValueError(
                f"Episode {name} has a state of shape {found}, but the agent of "
                f"{self.files.directory} reads one of [{rows}, {self.state_size}]: let it "
                "read images (observation=image, or source_observation=image for CoWorld)."
            )

    def _write(self, episode: Episode, slot: int) -> None:
        surplus = self.action_size - episode.action.shape[1]
        padded = episode._replace(action=np.pad(episode.action, ((0, 0), (0, surplus))))
        self._store = _write_in_place(
            self._kept,
            pad_episode(padded, self.rows, self.state_size),
            np.int32(slot),
            np.int32(len(episode.reward)),
        )


def _return(episode: Episode) -> float:
    return float(episode.reward.sum())
