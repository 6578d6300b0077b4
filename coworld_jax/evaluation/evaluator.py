"""The evaluations of a run: episodes from fixed seeds, figures, pictures, beside what else it does.

An evaluation is a function of the state at which it began and of its seeds. How long it takes, and
what is learnt meanwhile, changes nothing in it. Hosts share its episodes; host 0 judges and draws.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from coworld_jax import hosts
from coworld_jax.config import Config
from coworld_jax.data import share_episodes
from coworld_jax.envs import EnvironmentPool, episode_seed
from coworld_jax.evaluation import pictures
from coworld_jax.evaluation.scores import Evaluation, Marks, judge, submit
from coworld_jax.evaluation.selection import selection_figure
from coworld_jax.method import Method, State
from coworld_jax.records.metrics import FILE_NAME, read_metrics
from coworld_jax.types import Episode

PICTURES = "pictures"


class _UnderWay(NamedTuple):
    """An evaluation that has not been concluded."""

    awaited: Sequence[Future[Any]]  # what this host waits for
    conclude: Callable[[], Evaluation]


class Evaluator:
    """Scores domains of one run; of each domain at most one evaluation is under way.

    Args:
        method: whose players play.
        config: of the run.
        pools: simulators by domain.
        workdir: of the run; pictures go into its ``pictures/``.
        executor: one thread, which waits for the episodes, judges and draws them. It must end after
            the pools, or it may wait for episodes that nobody needs.

    Attributes:
        results: the latest figures of each domain, JSON-able.
        episode_seconds: wall time of the latest evaluation of each domain that simulators played,
            divided by its episodes; without the pictures, and with what else was done meanwhile.
    """

    def __init__(
        self,
        method: Method,
        config: Config,
        pools: Mapping[str, EnvironmentPool],
        workdir: Path,
        executor: Executor,
    ) -> None:
        self.results: dict[str, dict[str, Any]] = {}
        self.episode_seconds: dict[str, float] = {}
        self._method = method
        self._config = config
        self._pools = pools
        self._workdir = workdir
        self._executor = executor
        self._under_way: dict[str, _UnderWay] = {}
        self._drawings: list[Future[Any]] = []

    def seeds(self, domain: str, updates: int) -> list[int]:
        """Of the episodes that score ``domain`` after so many updates of the run."""
        config, stream = self._config, f"evaluation/{domain}/{updates}"
        return [episode_seed(config.seed, stream, i) for i in range(config.run.eval_episodes)]

    def begin(
        self,
        domain: str,
        state: State,
        marks: Marks,
        played: Sequence[Episode] | None = None,
    ) -> None:
        """Begin to play fresh episodes in ``domain``, and to draw them.

        Nothing begins where the results are those of ``marks`` already.

        Args:
            state: what the method has learnt; it is copied, so that the caller may donate it.
            marks: where the run is; the episodes' seeds are made from it.
            played: episodes of these seeds, where they have been played already.
        """
        if self.scored_at(domain) == marks.updates:
            return
        seeds = self.seeds(domain, marks.updates)
        # A view, as device_get gives it on the CPU, would keep the caller from donating.
        frozen = jax.tree.map(lambda leaf: np.array(leaf, copy=True), state)
        player, pool = self._method.players[domain], self._pools[domain]
        stem = self._workdir / PICTURES / domain

        judged = partial(
            judge, player, frozen, seed=seeds[0], marks=marks, stem=stem, title=pool.spec.task
        )
        if played is not None:
            beside = partial(judged, drawn=self._draw)
            self._under_way[domain] = _UnderWay([], lambda: _on_first(beside, played))
            return
        numbers = [number for number in range(len(seeds)) if hosts.mine(number)]
        begun = time.monotonic()
        futures = submit(player, frozen, pool, [seeds[number] for number in numbers])

        def note_time(_: Future[Episode]) -> None:  # the last to end sets the time
            self.episode_seconds[domain] = (time.monotonic() - begun) / len(seeds)

        for future in futures:
            future.add_done_callback(note_time)

        def wait() -> list[Episode]:
            return [future.result() for future in futures]

        if hosts.count() == 1:  # also judged and drawn beside what else the run does
            judging = self._executor.submit(lambda: judged(wait()))
            self._under_way[domain] = _UnderWay([judging], judging.result)
            return

        def conclude() -> Evaluation:
            episodes = share_episodes(dict(zip(numbers, wait(), strict=True)))
            return _on_first(judged, list(episodes.values()))

        self._under_way[domain] = _UnderWay(futures, conclude)

    def conclude(self, domain: str) -> Evaluation | None:
        """Wait for the evaluation of ``domain`` and keep its figures; None if none is under way.

        An exchange of the hosts.
        """
        if domain not in self._under_way:
            return None
        result = self._under_way.pop(domain).conclude()
        self.results[domain] = result.record()
        return result

    def awaited(self, domain: str) -> Sequence[Future[Any]]:
        """What `conclude` will wait for on this host."""
        return self._under_way[domain].awaited if domain in self._under_way else ()

    @property
    def under_way(self) -> list[str]:
        """Domains with an evaluation that has not been concluded, the earliest first."""
        return list(self._under_way)

    def scored_at(self, domain: str) -> int | None:
        """Updates of the parameters that the results of ``domain`` are of, or None."""
        return self.results[domain]["updates"] if domain in self.results else None

    def draw_returns(self, random_returns: Mapping[str, float]) -> None:
        """The curve of all evaluations so far, beside what random actions earn in each source."""
        records = read_metrics(self._workdir / FILE_NAME)
        titles = {domain: pool.spec.task for domain, pool in self._pools.items()}
        self._draw(
            lambda: pictures.returns_figure(
                self._workdir / PICTURES / "returns.png",
                records,
                random_returns=random_returns,
                titles=titles,
            )
        )

    def _draw(self, picture: Callable[[], Any]) -> None:
        """Draw beside what else the run does. One that has failed raises here or in `finish`."""
        for drawn in [drawing for drawing in self._drawings if drawing.done()]:
            self._drawings.remove(drawn)
            drawn.result()
        self._drawings.append(self._executor.submit(picture))

    def finish(self) -> None:
        """Wait until all pictures are drawn."""
        while self._drawings:
            self._drawings.pop(0).result()

    def draw_selection(self) -> dict[str, dict[str, float]]:
        """Which of several domains was chosen over training, drawn and summed up.

        Returns:
            For each domain that chose: the share of its updates that each candidate was chosen in.
            Empty where nothing was chosen.
        """
        records = read_metrics(self._workdir / FILE_NAME)
        return selection_figure(self._workdir / PICTURES / "selection.png", records)

    def pictures(self) -> list[str]:
        """Paths of all pictures, once they are drawn."""
        self.finish()
        folder = self._workdir / PICTURES
        return sorted(str(path) for path in folder.iterdir()) if folder.exists() else []


def _on_first(judged: Callable[[Sequence[Episode]], Evaluation], played: Any) -> Evaluation:
    """What host 0 finds of episodes that all hosts have, on every host."""
    found = hosts.on_first(lambda: judged(played)._asdict())
    return Evaluation(**found | {"marks": Marks(*found["marks"])})
