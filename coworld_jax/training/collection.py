"""Collecting a source's episodes while its agent learns, reproducibly.

Episode i is played with a seed made from (seed, source, i) by the parameters of a fixed update: the
one at which its collection began. It joins the replay when the collection ends, at another fixed
update. How fast the simulator is therefore changes nothing, nor where a run was interrupted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from coworld_jax.data import Replay, load_episode, save_episode
from coworld_jax.envs import EnvironmentPool, Policy, episode_seed, ready
from coworld_jax.types import Episode


class Collected(NamedTuple):
    """Figures of one collection."""

    env_steps: int
    returns: list[float]  # undiscounted, one per episode
    terminated: int  # episodes that ended with discount 0


class Collector:
    """Keeps at most one collection of whole episodes in flight.

    Args:
        pool: simulators of the source.
        replay: where the episodes go.
        seed: of the run.
        stream: name of the source, so that no two draw the same seeds.
    """

    def __init__(self, pool: EnvironmentPool, replay: Replay, seed: int, stream: str) -> None:
        self.replay = replay
        self._pool = pool
        self._seed = seed
        self._stream = stream
        self._flight: list[tuple[str, Future[Episode]]] = []

    @property
    def idle(self) -> bool:
        """Whether no collection is in flight."""
        return not self._flight

    def begin(self, policy: Policy, episodes: int) -> None:
        """Start to collect the next ``episodes`` episodes."""
        first = self.replay.appended
        for index in range(first, first + episodes):
            self._fly(index, self._pool.submit(self.seed_of(index), policy))

    def seed_of(self, index: int) -> int:
        """The seed of episode ``index`` of the replay."""
        return episode_seed(self._seed, self._stream, index)

    def deliver(self, episodes: Sequence[Episode]) -> None:
        """Start a collection that has been played already."""
        for index, episode in enumerate(episodes, self.replay.appended):
            self._fly(index, ready(episode))

    def flown(self) -> list[Episode]:
        """The episodes of the collection in flight; waits for them."""
        return [future.result() for _, future in self._flight]

    def _fly(self, index: int, episode: Future[Episode]) -> None:
        self._flight.append((f"{index:06d}", episode))

    def finish(self) -> Collected:
        """Wait for the collection and add it to the replay."""
        episodes = self.flown()
        for (name, _), episode in zip(self._flight, episodes, strict=True):
            self.replay.append(episode, name)
        self._flight = []
        return Collected(
            env_steps=sum(len(episode.reward) - 1 for episode in episodes),
            returns=[float(episode.reward.sum()) for episode in episodes],
            terminated=sum(bool(episode.discount[-1] == 0.0) for episode in episodes),
        )

    def record(self) -> dict[str, Any]:
        """What a checkpoint must name: the replay, and the collection in flight once it is done."""
        pending = [
            save_episode(self.replay.directory, future.result(), name=name).name
            for name, future in self._flight
        ]
        return {"replay": self.replay.manifest(), "pending": pending}

    def resume(self, record: Mapping[str, Any]) -> None:
        """Go back to a record; episodes on the disk that it does not name are deleted."""
        self.replay.restore(record["replay"], keep=record["pending"])
        for file in record["pending"]:
            episode = load_episode(self.replay.directory / file)
            self._flight.append((file.removesuffix(".npz"), ready(episode)))

    def start_over(self) -> None:
        """Forget all episodes, of which no checkpoint knows."""
        self.resume({"replay": [], "pending": []})
