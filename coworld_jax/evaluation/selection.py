"""Which of several candidates an agent chose over training: shares and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from coworld_jax.evaluation.pictures import COLORS, save_figure

_CHOSEN = "/chosen/"  # metrics <domain>/chosen/<candidate>: the share of updates


def chosen_shares(
    records: Sequence[Mapping[str, Any]],
) -> dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """By domain and candidate: updates ``[K]``, and the share since the record before ``[K]``.

    Args:
        records: lines of ``metrics.jsonl``, in order.
    """
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for record in records:
        for name, value in record.items():
            domain, chosen, candidate = name.partition(_CHOSEN)
            if chosen:
                points = found.setdefault(domain, {}).setdefault(candidate, [])
                points.append((record["updates"], value))
    return {
        domain: {name: _columns(points) for name, points in candidates.items()}
        for domain, candidates in found.items()
    }


def _columns(points: list[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    updates, shares = np.array(points, float).T
    return updates, shares


def selection_figure(
    path: str | Path, records: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, float]]:
    """Draw the share of updates in which each candidate was chosen, stacked over training.

    Args:
        path: PNG to write; nothing is written where no choice was made.
        records: lines of ``metrics.jsonl``.

    Returns:
        The mean share of each candidate, by domain.
    """
    shares = chosen_shares(records)
    if not shares:
        return {}
    figure = Figure(figsize=(6.4, 3.2 * len(shares)), layout="constrained")
    panels = figure.subplots(len(shares), 1, squeeze=False)[:, 0]
    for axes, (domain, candidates) in zip(panels, shares.items(), strict=True):
        updates = next(iter(candidates.values()))[0]
        stacked = [share for _, share in candidates.values()]
        axes.stackplot(updates, stacked, labels=[*candidates], colors=COLORS[: len(candidates)])
        axes.set_ylim(0.0, 1.0)
        axes.set_xlabel("updates")
        axes.set_ylabel("share of updates")
        axes.set_title(f"source chosen for {domain}")
        axes.legend(fontsize=8, loc="upper right")
    save_figure(figure, path)
    return {
        domain: {name: float(share.mean()) for name, (_, share) in candidates.items()}
        for domain, candidates in shares.items()
    }
