"""Collecting a source's episodes while its agent learns, reproducibly.

Hosts share the episodes of a collection among them by their numbers, and give each other what they
have played when the collection ends.

Episode i is played with a seed made from (seed, source, i) by the parameters of a fixed update: the
one at which its collection began. It joins the replay when the collection ends, at another fixed
update. How fast the simulator is therefore changes nothing, nor where a run was interrupted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from coworld_jax import hosts
from coworld_jax.data import Replay, share_episodes
from coworld_jax.envs import EnvironmentPool, Policy, episode_seed, ready
from coworld_jax.training.waiting import Patience
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
        patience: waits for episodes.
    """

    def __init__(
        self, pool: EnvironmentPool, replay: Replay, seed: int, stream: str, patience: Patience
    ) -> None:
        self.replay = replay
        self._pool = pool
        self._seed = seed
        self._stream = stream
        self._patience = patience
        self._flight: dict[int, Future[Episode]] = {}  # by number
        self._episodes = 0  # in flight, over all hosts
        self._shared = True  # whether each host has all of them, and not its own alone

    @property
    def idle(self) -> bool:
        """Whether no collection is in flight."""
        return not self._episodes

    def begin(self, policy: Policy, episodes: int) -> None:
        """Start to collect the next ``episodes`` episodes."""
        first = self.replay.appended
        for index in range(first, first + episodes):
            if hosts.mine(index):
                self._flight[index] = self._pool.submit(self.seed_of(index), policy)
        self._episodes, self._shared = episodes, False

    def seed_of(self, index: int) -> int:
        """The seed of episode ``index`` of the replay."""
        return episode_seed(self._seed, self._stream, index)

    def deliver(self, episodes: Sequence[Episode]) -> None:
        """Start a collection that has been played already, on every host."""
        first = self.replay.appended
        self._flight = {index: ready(episode) for index, episode in enumerate(episodes, first)}
        self._episodes, self._shared = len(episodes), True

    def flown(self, *, worthwhile: bool = True) -> list[Episode]:
        """The episodes of the collection in flight; waits for them. An exchange of the hosts.

        Args:
            worthwhile: see `Patience.wait`.

        Raises:
            Stopped: the run was asked to stop, and they take too long.
        """
        if not self._shared:
            self._patience.wait(self._flight.values(), worthwhile=worthwhile)
            own = {index: future.result() for index, future in self._flight.items()}
            self.deliver(list(share_episodes(own).values()))
        return [future.result() for future in self._flight.values()]

    def finish(self, *, worthwhile: bool = True) -> Collected:
        """Wait for the collection and add it to the replay; see `flown`."""
        episodes = self.flown(worthwhile=worthwhile)
        for index, episode in zip(self._flight, episodes, strict=True):
            self.replay.append(episode, _name(index))
        self.deliver(())
        return Collected(
            env_steps=sum(len(episode.reward) - 1 for episode in episodes),
            returns=[float(episode.reward.sum()) for episode in episodes],
            terminated=sum(bool(episode.discount[-1] == 0.0) for episode in episodes),
        )

    def record(self) -> dict[str, Any]:
        """What a checkpoint must name: the replay, and the collection in flight once it is done."""
        episodes = self.flown()
        pending = [
            self.replay.files.save(episode, _name(index))
            for index, episode in zip(self._flight, episodes, strict=True)
        ]
        return {"replay": self.replay.manifest(), "pending": pending}

    def resume(self, record: Mapping[str, Any]) -> None:
        """Go back to a record; episodes on the disk that it does not name are deleted."""
        self.replay.restore(record["replay"], keep=record["pending"])
        self.deliver([self.replay.files.load(file) for file in record["pending"]])

    def start_over(self) -> None:
        """Forget all episodes, of which no checkpoint knows."""
        self.resume({"replay": [], "pending": []})


def _name(index: int) -> str:
    """Of the file of an episode."""
    return f"{index:06d}"
