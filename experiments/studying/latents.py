"""Embeddings of the target's frames by both encoders, in two dimensions: the paper's Figure 11."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from coworld_jax.agents.dreamer.agent import make_agent
from coworld_jax.agents.dreamer.world_model import encode_image, normalise_image
from coworld_jax.data import load_episode
from coworld_jax.data.directory import episode_files
from coworld_jax.evaluation.pictures import BLUE, ORANGE, save_figure
from coworld_jax.losses import alignment_loss
from coworld_jax.workdir import restore_run
from experiments.studying.commands import data_directory
from experiments.studying.study import Run

_FRAMES = 200


def draw_latents(path: Path, root: Path, runs: Sequence[Run]) -> list[float]:
    """A panel for each run: what its two encoders make of the same frames of its dataset.

    Returns:
        The mean distance of the embeddings of each run, nats.
    """
    distances = []
    figure = Figure(figsize=(3.4 * len(runs), 3.4), layout="constrained")
    for axis, run in zip(figure.subplots(1, len(runs), squeeze=False)[0], runs):
        source, target, distance = embeddings(root, run)
        distances.append(distance)
        points = project(np.concatenate([source, target]))
        half = len(source)
        axis.scatter(*points[:half].T, s=5, color=ORANGE, label="source's encoder")
        axis.scatter(*points[half:].T, s=5, color=BLUE, label="target's encoder")
        axis.set_title(f"{run.pair}, {run.arm}\ndistance {distance:.3g} nats", fontsize=8)
        axis.legend(fontsize=7)
    save_figure(figure, path)
    return distances


def embeddings(root: Path, run: Run) -> tuple[np.ndarray, np.ndarray, float]:
    """Of frames of the run's dataset: by the first source's encoder, and by the target's.

    Returns:
        ``[N, E]`` each, after the softmax that coupling A compares, and its mean distance in nats.
    """
    assert run.data is not None
    restored = restore_run(root / run.place)
    settings = restored.config.settings
    size = max(spec.action_size for spec in restored.specs.values())
    model = make_agent(settings.network, settings.learning, size).model
    episode = load_episode(episode_files(data_directory(root, run.data))[-1])
    frames = normalise_image(jnp.asarray(episode.image[:_FRAMES]))
    agents = (restored.state.sources[0], restored.state.target)
    source, target = (encode_image(model, agent.world_model, frames) for agent in agents)
    distance = alignment_loss(target[None], source[None])
    compared = [np.asarray(jax.nn.softmax(embed)) for embed in (source, target)]
    return compared[0], compared[1], float(jnp.mean(distance))


def project(points: np.ndarray) -> np.ndarray:
    """The two principal components of ``[N, E]``, ``[N, 2]``."""
    centred = points - points.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    return np.asarray(centred @ axes[:2].T)
