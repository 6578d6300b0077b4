"""Which of several candidates an agent chose over training: shares and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from coworld_jax.evaluation.pictures import COLORS, save_figure

_CHOSEN = "/chosen/"  # metrics <domain>/chosen/<candidate>: the share of updates
_LEARNT = "time/updates_per_second"  # in every record of updates, and in no other


def by_candidate(
    records: Sequence[Mapping[str, Any]], marker: str = _CHOSEN
) -> dict[str, dict[str, np.ndarray]]:
    """By domain and candidate: updates, how many a record stands for, and the value in them.

    Args:
        records: lines of ``metrics.jsonl``, in order.
        marker: what stands between domain and candidate in a metric's name; if not given, the value
            is the share of the updates in which the candidate was chosen.

    Returns:
        Three arrays ``[K]`` for each candidate.
    """
    found: dict[str, dict[str, list[tuple[float, float, float]]]] = {}
    before = 0
    for record in records:
        if _LEARNT not in record:
            continue
        made, before = record["updates"] - before, record["updates"]
        for name, value in record.items():
            domain, marked, candidate = name.partition(marker)
            if marked:
                points = found.setdefault(domain, {}).setdefault(candidate, [])
                points.append((record["updates"], made, value))
    return {
        domain: {name: np.array(points, float).T for name, points in candidates.items()}
        for domain, candidates in found.items()
    }


def candidate_means(
    records: Sequence[Mapping[str, Any]], marker: str = _CHOSEN
) -> dict[str, dict[str, float]]:
    """The mean over the updates of what `by_candidate` finds, by domain and candidate."""
    return {
        domain: {
            name: float(np.average(value, weights=made))
            for name, (_, made, value) in candidates.items()
        }
        for domain, candidates in by_candidate(records, marker).items()
    }


def selection_figure(
    path: str | Path, records: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, float]]:
    """Draw the share of updates in which each candidate was chosen, stacked over training.

    Args:
        path: PNG to write; nothing is written where no choice was made.
        records: lines of ``metrics.jsonl``.

    Returns:
        The share of all updates in which each candidate was chosen, by domain.
    """
    shares = by_candidate(records)
    if not shares:
        return {}
    figure = Figure(figsize=(6.4, 3.2 * len(shares)), layout="constrained")
    panels = figure.subplots(len(shares), 1, squeeze=False)[:, 0]
    for axes, (domain, candidates) in zip(panels, shares.items(), strict=True):
        updates = next(iter(candidates.values()))[0]
        stacked = [share for _, _, share in candidates.values()]
        axes.stackplot(updates, stacked, labels=[*candidates], colors=COLORS[: len(candidates)])
        axes.set_ylim(0.0, 1.0)
        axes.set_xlabel("updates")
        axes.set_ylabel("share of updates")
        axes.set_title(f"source chosen for {domain}")
        axes.legend(fontsize=8, loc="upper right")
    save_figure(figure, path)
    return candidate_means(records)
