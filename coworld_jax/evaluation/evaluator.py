"""The evaluations of a run: episodes from fixed seeds, figures, pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from coworld_jax.config import Config
from coworld_jax.coworld import TARGET, CoWorld, CoWorldState
from coworld_jax.envs import EnvironmentPool, episode_seed
from coworld_jax.evaluation import pictures
from coworld_jax.evaluation.report import Evaluation, evaluate
from coworld_jax.metrics import FILE_NAME, read_metrics
from coworld_jax.workdir import agent_of

PICTURES = "pictures"


class Evaluator:
    """Scores domains of one run.

    Args:
        method: whose agents play.
        config: of the run.
        pools: simulators by domain.
        workdir: of the run; pictures go into its ``pictures/``.

    Attributes:
        results: the latest figures of each domain, JSON-able.
    """

    def __init__(
        self,
        method: CoWorld,
        config: Config,
        pools: Mapping[str, EnvironmentPool],
        workdir: Path,
    ) -> None:
        self.results: dict[str, dict[str, Any]] = {}
        self._method = method
        self._config = config
        self._pools = pools
        self._workdir = workdir

    def score(
        self, domain: str, state: CoWorldState, *, updates: int, env_steps: int
    ) -> Evaluation:
        """Play fresh episodes in ``domain``, and draw them.

        Args:
            updates: done so far; the episodes' seeds are made from it.
            env_steps: done so far; recorded.
        """
        config = self._config
        stream = f"evaluation/{domain}/{updates}"
        # Among several sources the constraining one changes from batch to batch.
        single = domain == TARGET and len(state.sources) == 1
        result = evaluate(
            self._method.agent(domain),
            agent_of(state, config, domain),
            source_critic=state.sources[0].critic if single else None,
            pool=self._pools[domain],
            seeds=[episode_seed(config.seed, stream, i) for i in range(config.run.eval_episodes)],
            discount=config.learning.discount,
            updates=updates,
            env_steps=env_steps,
            pictures_directory=self._workdir / PICTURES,
            domain=domain,
        )
        self.results[domain] = result._asdict()
        return result

    def draw_returns(self, random_returns: Mapping[str, float]) -> None:
        """The curve of all evaluations so far, beside what random actions earn in each source."""
        pictures.returns_figure(
            self._workdir / PICTURES / "returns.png",
            read_metrics(self._workdir / FILE_NAME),
            random_returns=random_returns,
            titles={domain: pool.spec.task for domain, pool in self._pools.items()},
        )

    def pictures(self) -> list[str]:
        """Paths of all pictures."""
        return sorted(str(path) for path in (self._workdir / PICTURES).iterdir())
