"""The evaluations of a run: episodes from fixed seeds, figures, pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from coworld_jax.config import Config
from coworld_jax.envs import EnvironmentPool, episode_seed
from coworld_jax.evaluation import pictures
from coworld_jax.evaluation.scores import Evaluation, Marks, evaluate
from coworld_jax.evaluation.selection import selection_figure
from coworld_jax.method import Method, State
from coworld_jax.records.metrics import FILE_NAME, read_metrics

PICTURES = "pictures"


class Evaluator:
    """Scores domains of one run.

    Args:
        method: whose players play.
        config: of the run.
        pools: simulators by domain.
        workdir: of the run; pictures go into its ``pictures/``.

    Attributes:
        results: the latest figures of each domain, JSON-able.
    """

    def __init__(
        self,
        method: Method,
        config: Config,
        pools: Mapping[str, EnvironmentPool],
        workdir: Path,
    ) -> None:
        self.results: dict[str, dict[str, Any]] = {}
        self._method = method
        self._config = config
        self._pools = pools
        self._workdir = workdir

    def score(self, domain: str, state: State, marks: Marks) -> Evaluation:
        """Play fresh episodes in ``domain``, and draw them.

        Args:
            state: what the method has learnt.
            marks: where the run is; the episodes' seeds are made from it.
        """
        config, stream = self._config, f"evaluation/{domain}/{marks.updates}"
        result = evaluate(
            self._method.players[domain],
            state,
            self._pools[domain],
            [episode_seed(config.seed, stream, i) for i in range(config.run.eval_episodes)],
            marks,
            self._workdir / PICTURES / domain,
        )
        self.results[domain] = result.record()
        return result

    def draw_returns(self, random_returns: Mapping[str, float]) -> None:
        """The curve of all evaluations so far, beside what random actions earn in each source."""
        pictures.returns_figure(
            self._workdir / PICTURES / "returns.png",
            read_metrics(self._workdir / FILE_NAME),
            random_returns=random_returns,
            titles={domain: pool.spec.task for domain, pool in self._pools.items()},
        )

    def draw_selection(self) -> dict[str, dict[str, float]]:
        """Which of several domains was chosen over training, drawn and summed up.

        Returns:
            For each domain that chose: the share of its updates that each candidate was chosen in.
            Empty where nothing was chosen.
        """
        records = read_metrics(self._workdir / FILE_NAME)
        return selection_figure(self._workdir / PICTURES / "selection.png", records)

    def pictures(self) -> list[str]:
        """Paths of all pictures."""
        folder = self._workdir / PICTURES
        return sorted(str(path) for path in folder.iterdir()) if folder.exists() else []
