"""One evaluation of one domain: fresh episodes, figures and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from coworld_jax.agent import Agent, AgentState
from coworld_jax.envs import EnvironmentPool
from coworld_jax.evaluation import pictures
from coworld_jax.evaluation.state_curves import state_curves_figure
from coworld_jax.evaluation.value_bias import value_bias
from coworld_jax.evaluation.viewing import episode_values, open_loop, side_by_side
from coworld_jax.policy import AgentPolicy
from coworld_jax.types import Episode

_CLIPS = 4  # episodes shown next to each other
_CONTEXT = 15  # frames that an open-loop prediction has seen
_HORIZON = 35  # frames that it predicts
_START = 20  # first frame of an open-loop clip, after the fall of the reset


class Evaluation(NamedTuple):
    """Figures of one domain after ``updates`` updates; JSON-able with ``_asdict``."""

    updates: int
    env_steps: int
    returns: list[float]  # undiscounted, one per episode
    return_mean: float
    return_std: float
    value_bias: float  # critic's value minus realised discounted return, mean over states
    above_source: float | None  # share of visited states where v_T > v_S; None for a source

    def metrics(self, domain: str) -> dict[str, float]:
        """The figures under the names that ``metrics.jsonl`` uses."""
        named = {
            "return_mean": self.return_mean,
            "return_std": self.return_std,
            "value_bias": self.value_bias,
        }
        if self.above_source is not None:
            named["above_source"] = self.above_source
        return {f"{domain}/evaluation/{name}": value for name, value in named.items()}


def evaluate(
    agent: Agent,
    state: AgentState,
    *,
    source_critic: Any | None,
    pool: EnvironmentPool,
    seeds: Sequence[int],
    discount: float,
    updates: int,
    env_steps: int,
    pictures_directory: Path,
    domain: str,
) -> Evaluation:
    """Score an agent over one fresh episode per seed, and draw what it did.

    The actor takes its mode; the latent is sampled. Writes ``<domain>_rollout.gif``,
    ``<domain>_open_loop.gif`` (and ``.png``, single frames of both) and
    ``<domain>_value_bias.png`` into ``pictures_directory``. An agent that reads states predicts no
    frames: its ``<domain>_open_loop.png`` shows curves, and there is no such GIF.

    Args:
        source_critic: critic that constrains this agent's, or None for a source.
        pool: simulators of the domain.
        seeds: of the episodes.
        discount: ``γ`` that the critic was trained with.
        updates: done so far, like ``env_steps``; recorded, not used.
        domain: ``"source"`` or ``"target"``, for file names.
    """
    policy = AgentPolicy(agent, state, action_size=pool.spec.action_size, explore=False)
    episodes = list(pool.map(seeds, policy))
    returns = [float(np.sum(episode.reward)) for episode in episodes]
    clips = side_by_side(episodes, agent.model.action_size, agent.model.state_size)
    observation = getattr(clips, agent.model.reads)
    critics = (state.critic,) if source_critic is None else (state.critic, source_critic)
    key = jax.random.key(seeds[0])
    values = np.asarray(
        episode_values(agent, state.world_model, critics, observation, clips.action, key)
    )
    biases = [
        value_bias(values[0, :rows, i], episode.reward, discount, terminated=_terminated(episode))
        for i, (episode, rows) in enumerate(zip(episodes, clips.rows, strict=True))
    ]
    above = None
    if source_critic is not None:
        seen = [values[:, :rows, i] for i, rows in enumerate(clips.rows)]
        above = float(np.mean(np.concatenate([value[0] > value[1] for value in seen])))
    _draw(agent, state, episodes, values[0], discount, pictures_directory / domain, pool.spec.task)
    return Evaluation(
        updates=updates,
        env_steps=env_steps,
        returns=returns,
        return_mean=float(np.mean(returns)),
        return_std=float(np.std(returns)),
        value_bias=float(np.mean([bias.mean for bias in biases])),
        above_source=above,
    )


def _terminated(episode: Episode) -> bool:
    return bool(episode.discount[-1] == 0.0)


def _draw(
    agent: Agent,
    state: AgentState,
    episodes: Sequence[Episode],
    values: np.ndarray,
    discount: float,
    stem: Path,
    title: str,
) -> None:
    """The pictures of one evaluation, in files whose names begin with ``stem``."""
    shown = episodes[:_CLIPS]
    clips = side_by_side(shown, agent.model.action_size, agent.model.state_size)
    rollout = pictures.tile(clips.image)
    pictures.write_gif(stem.with_name(f"{stem.name}_rollout.gif"), rollout, scale=2)
    pictures.write_png(
        stem.with_name(f"{stem.name}_rollout.png"),
        pictures.film_strip(shown[0].image),
        scale=2,
    )
    shortest = min(clips.rows)
    length = min(_CONTEXT + _HORIZON, shortest)
    start, context = min(_START, shortest - length), min(_CONTEXT, length // 2)
    if context > 0:
        window = slice(start, start + length)
        truth = getattr(clips, agent.model.reads)[window]
        model = open_loop(agent, state.world_model, truth, clips.action[window], context)
    if context > 0 and agent.model.reads == "state":
        state_curves_figure(
            stem.with_name(f"{stem.name}_open_loop.png"),
            truth[:, 0],
            np.asarray(model)[:, 0],
            context,
            title=title,
        )
    elif context > 0:
        shown_truth, shown_model = truth / np.float32(255.0), np.asarray(model)
        frames = pictures.open_loop_frames(shown_truth, shown_model, context)
        pictures.write_gif(stem.with_name(f"{stem.name}_open_loop.gif"), frames, fps=10, scale=2)
        strip = pictures.open_loop_frames(shown_truth[:, :1], shown_model[:, :1], context)
        pictures.write_png(
            stem.with_name(f"{stem.name}_open_loop.png"), pictures.film_strip(strip, 10), scale=2
        )
    first = episodes[0]
    pictures.value_bias_figure(
        stem.with_name(f"{stem.name}_value_bias.png"),
        values[: len(first.reward), 0],
        first.reward,
        discount,
        terminated=_terminated(first),
        title=title,
    )
