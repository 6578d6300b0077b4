"""One evaluation of one domain: fresh episodes, figures and pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from coworld_jax.envs import EnvironmentPool
from coworld_jax.evaluation import pictures
from coworld_jax.evaluation.clips import side_by_side
from coworld_jax.evaluation.state_curves import state_curves_figure
from coworld_jax.evaluation.value_bias import cumulative_bias, value_bias
from coworld_jax.method import Player, State, make_key
from coworld_jax.policy import AgentPolicy
from coworld_jax.types import Episode

_CLIPS = 4  # episodes shown next to each other
_CONTEXT = 15  # frames that an open-loop prediction has seen
_HORIZON = 35  # frames that it predicts
_START = 20  # first frame of an open-loop clip, after the fall of the reset


Values = Mapping[str, np.ndarray]  # of critics by name, see `critic_values`


class Marks(NamedTuple):
    """How far a run was when it was evaluated."""

    updates: int
    env_steps: int


class Evaluation(NamedTuple):
    """Figures of one domain."""

    marks: Marks
    returns: list[float]  # undiscounted, one per episode
    return_mean: float
    return_std: float
    critics: dict[str, float]  # see `judge_values`

    def figures(self) -> dict[str, float]:
        """The figures that every evaluation repeats, by name."""
        return {"return_mean": self.return_mean, "return_std": self.return_std} | self.critics

    def metrics(self, domain: str) -> dict[str, float]:
        """The figures under the names that ``metrics.jsonl`` uses."""
        prefix = evaluation_prefix(domain)
        return {f"{prefix}{name}": value for name, value in self.figures().items()}

    def record(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {**self.marks._asdict(), "returns": self.returns, **self.figures()}

    def sentence(self, domain: str) -> str:
        """The figures as a line for the user."""
        name = "value_bias"
        bias = f", value bias {self.critics[name]:+.2f}" if name in self.critics else ""
        return (
            f"Evaluation of {domain} at update {self.marks.updates}: return "
            f"{self.return_mean:.1f} ± {self.return_std:.1f} over {len(self.returns)} "
            f"episodes{bias}."
        )


def evaluation_prefix(domain: str) -> str:
    """How the names of the metrics of a domain's evaluations begin."""
    return f"{domain}/evaluation/"


def evaluate(
    player: Player,
    state: State,
    pool: EnvironmentPool,
    seeds: Sequence[int],
    marks: Marks,
    stem: Path,
) -> Evaluation:
    """Score a player over one fresh episode per seed, and draw what it did.

    The actor takes its mode; a latent is sampled. Writes ``<stem>_rollout.gif`` and, where the
    player has a decoder or a critic, ``<stem>_open_loop.gif`` and ``<stem>_value_bias.png`` (and
    single frames of both clips as ``.png``). A player that reads states predicts no frames: its
    ``<stem>_open_loop.png`` shows curves, and there is no such GIF.

    Args:
        player: of the domain.
        state: what the method has learnt.
        pool: simulators of the domain.
        seeds: of the episodes.
        marks: recorded, not used.
        stem: path of the pictures, without the end of their names.
    """
    episodes = [future.result() for future in submit(player, state, pool, seeds)]
    return judge(player, state, episodes, seeds[0], marks, stem, title=pool.spec.task)


def submit(
    player: Player, state: State, pool: EnvironmentPool, seeds: Sequence[int]
) -> list[Future[Episode]]:
    """Begin to play one episode per seed; collections that wait for the same pool go first."""
    spec = pool.spec
    policy = AgentPolicy(player, state, spec.image_size, spec.state_size, explore=False)
    return [pool.submit(seed, policy, urgent=False) for seed in seeds]


def judge(
    player: Player,
    state: State,
    episodes: Sequence[Episode],
    seed: int,
    marks: Marks,
    stem: Path,
    *,
    title: str,
    drawn: Callable[[Callable[[], None]], None] = lambda pictures: pictures(),
) -> Evaluation:
    """The figures and pictures of episodes; see `evaluate`.

    Args:
        seed: of the posterior samples.
        title: of the pictures.
        drawn: calls the function that draws the pictures, at once or later.
    """
    values = critic_values(player, state, episodes, seed)
    drawn(lambda: draw(player, state, episodes, values, stem, title))
    return score(player, episodes, values, marks)


def score(player: Player, episodes: Sequence[Episode], values: Values, marks: Marks) -> Evaluation:
    """The figures of episodes.

    Args:
        values: of these episodes, see `critic_values`.
    """
    returns = [float(np.sum(episode.reward)) for episode in episodes]
    return Evaluation(
        marks=marks,
        returns=returns,
        return_mean=float(np.mean(returns)),
        return_std=float(np.std(returns)),
        critics=judge_values(player, episodes, values),
    )


def draw(
    player: Player,
    state: State,
    episodes: Sequence[Episode],
    values: Values,
    stem: Path,
    title: str,
) -> None:
    """The pictures of episodes; see `evaluate`.

    Args:
        values: of these episodes, see `critic_values`.
    """
    draw_rollouts(episodes, stem)
    draw_open_loop(player, state, episodes, stem, title)
    if not values:
        return
    first = episodes[0]
    pictures.value_bias_figure(
        stem.with_name(f"{stem.name}_value_bias.png"),
        next(iter(values.values()))[: len(first.reward), 0],
        first.reward,
        player.discount,
        terminated=_terminated(first),
        title=title,
    )


def critic_values(
    player: Player, state: State, episodes: Sequence[Episode], seed: int
) -> dict[str, np.ndarray]:
    """What the player's critics expect on the way through the episodes.

    Args:
        seed: of the posterior samples.

    Returns:
        Values ``[T, N]`` of each critic, by name, the own one first; T is the length of the longest
        episode. Nothing for a player without a critic.
    """
    if player.values is None:
        return {}
    clips = side_by_side(episodes, player.reads)
    found = player.values(state, clips.observation, clips.action, make_key(seed))
    return {name: np.asarray(value) for name, value in found.items()}


def judge_values(player: Player, episodes: Sequence[Episode], values: Values) -> dict[str, float]:
    """How far the player's critics are from what the episodes pay, mean over them.

    * ``value_bias``: the own critic's value less the realised discounted return, see `value_bias`.
    * ``cumulative_bias``: the paper's measure of the same, see `cumulative_bias`.
    * ``bias_<name>``: the value bias of another critic on these states, against the same returns.
      The critic of a source was trained on the source's rewards, and their scale is not taken out:
      coupling C compares it with the target's values as it is.
    * ``above_<name>``: the share of visited states where the own critic lies above that one.

    Args:
        values: of these episodes, see `critic_values`.

    Returns:
        The figures by name, biases in units of the domain's rewards; nothing for a player without
        a critic.
    """
    if not values:
        return {}
    own, *others = values
    lengths = [len(episode.reward) for episode in episodes]
    played = list(zip(episodes, lengths, strict=True))

    def bias(critic: str) -> float:
        of = values[critic]
        each = [
            value_bias(of[:rows, i], one.reward, player.discount, terminated=_terminated(one))
            for i, (one, rows) in enumerate(played)
        ]
        return float(np.mean([episode.mean for episode in each]))

    summed = [
        cumulative_bias(values[own][:rows, i], one.reward, player.discount)
        for i, (one, rows) in enumerate(played)
    ]
    visited = np.arange(max(lengths))[:, None] < np.array(lengths)
    figures = {"value_bias": bias(own), "cumulative_bias": float(np.mean(summed))}
    for name in others:
        figures[f"bias_{name}"] = bias(name)
        figures[f"above_{name}"] = float(np.mean((values[own] > values[name])[visited]))
    return figures


def _terminated(episode: Episode) -> bool:
    return bool(episode.discount[-1] == 0.0)


def draw_rollouts(episodes: Sequence[Episode], stem: Path) -> None:
    """The first episodes side by side, and one of them as a strip."""
    clips = side_by_side(episodes[:_CLIPS], "image")
    rollout = pictures.tile(clips.image)
    pictures.write_gif(stem.with_name(f"{stem.name}_rollout.gif"), rollout, scale=2)
    pictures.write_png(
        stem.with_name(f"{stem.name}_rollout.png"),
        pictures.film_strip(episodes[0].image),
        scale=2,
    )


def draw_open_loop(
    player: Player, state: State, episodes: Sequence[Episode], stem: Path, title: str
) -> None:
    """What a player with a decoder expects of the first episodes, from a few frames on."""
    clips = side_by_side(episodes[:_CLIPS], player.reads)
    shortest = min(clips.rows)
    length = min(_CONTEXT + _HORIZON, shortest)
    start, context = min(_START, shortest - length), min(_CONTEXT, length // 2)
    if player.predict is None or context == 0:
        return
    window = slice(start, start + length)
    truth = clips.observation[window]
    model = np.asarray(player.predict(state, truth, clips.action[window], context))
    path = stem.with_name(f"{stem.name}_open_loop.png")
    if player.reads == "state":
        state_curves_figure(path, truth[:, 0], model[:, 0], context, title=title)
        return
    shown = truth / np.float32(255.0)
    frames = pictures.open_loop_frames(shown, model, context)
    pictures.write_gif(path.with_suffix(".gif"), frames, fps=10, scale=2)
    strip = pictures.open_loop_frames(shown[:, :1], model[:, :1], context)
    pictures.write_png(path, pictures.film_strip(strip, 10), scale=2)
