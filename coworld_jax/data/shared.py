"""Episodes that several hosts share: files that host 0 keeps, and what each host has played."""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from coworld_jax import hosts
from coworld_jax.data.episodes import load_episode, save_episode
from coworld_jax.data.faults import DataError
from coworld_jax.types import Episode


class EpisodeFiles:
    """The files of a replay. Host 0 writes and reads them; no other host opens the directory.

    Args:
        directory: of these files alone; made when missing.
    """

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory)
        if hosts.first():
            self.directory.mkdir(parents=True, exist_ok=True)

    def save(self, episode: Episode, name: str) -> str:
        """Write ``name``.npz; the name of the file."""
        if hosts.first():
            save_episode(self.directory, episode, name=name)
        return f"{name}.npz"

    def load(self, file: str) -> Episode:
        """The episode in a file; an exchange of the hosts.

        Raises:
            DataError: the file is missing or damaged.
        """
        if hosts.count() == 1:
            return self._read(file)
        blob = _pack({0: self._read(file)}) if hosts.first() else b""
        return _unpack(hosts.bytes_of_first(blob))[0]

    def keep_only(self, files: Collection[str]) -> None:
        """Delete all episodes but these, and what a killed save has left behind."""
        if not hosts.first():
            return
        for path in [*self.directory.glob("*.npz"), *self.directory.glob(".*.tmp")]:
            if path.name not in files:
                path.unlink()

    def _read(self, file: str) -> Episode:
        path = self.directory / file
        try:
            return load_episode(path)
        except FileNotFoundError as error:
            raise DataError.of(path, "", "is gone, but the checkpoint names it") from error


def share_episodes(own: Mapping[int, Episode]) -> dict[int, Episode]:
    """The episodes of all hosts, on every host, by their numbers; an exchange.

    Args:
        own: those that this host has played.
    """
    if hosts.count() == 1:
        return dict(own)
    shared: dict[int, Episode] = {}
    for blob in hosts.gather_bytes(_pack(own)):
        shared |= _unpack(blob)
    return dict(sorted(shared.items()))


def _pack(episodes: Mapping[int, Episode]) -> bytes:
    """Episodes as one archive; ``3/image`` is an array of episode 3, ``3/+state`` an extra."""
    arrays: dict[str, np.ndarray] = {}
    for number, episode in episodes.items():
        own = {name: getattr(episode, name) for name in Episode._fields if name != "extras"}
        own |= {f"+{name}": value for name, value in episode.extras.items()}
        arrays |= {f"{number}/{name}": value for name, value in own.items()}
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]  # no array is called allow_pickle
    return file.getvalue()


def _unpack(blob: bytes) -> dict[int, Episode]:
    """What `_pack` has packed."""
    found: dict[int, dict[str, np.ndarray]] = {}
    with np.load(io.BytesIO(blob), allow_pickle=False) as archive:
        for key, value in archive.items():
            number, _, name = key.partition("/")
            found.setdefault(int(number), {})[name] = value
    episodes = {}
    for number, arrays in found.items():
        extras = {name[1:]: arrays.pop(name) for name in list(arrays) if name.startswith("+")}
        episodes[number] = Episode(**arrays, extras=extras)
    return episodes
