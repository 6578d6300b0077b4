"""Statistics of few seeds on several pairs, each with its 95 % interval.

A score matrix is a list with an array of scores for each pair. The intervals are those of the
stratified percentile bootstrap: seeds are drawn with replacement within each pair, so that pairs
are strata. Where two arms share seeds, a draw takes the same seeds of both. Few seeds give such an
interval too narrow, so the percentiles lie further out (`_level`).

Sources: Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice",
NeurIPS 2021; for the percentiles, Hesterberg, "What Teachers Should Know about the Bootstrap",
The American Statistician 69 (2015), section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isnan
from typing import NamedTuple

import numpy as np
from scipy import stats

RESAMPLES = 2000
CONFIDENCE = 0.95

Scores = Sequence[np.ndarray]  # by pair, float [seeds]


class Estimate(NamedTuple):
    """A statistic and the ends of its interval."""

    value: float
    low: float
    high: float

    def scaled(self, factor: float) -> Estimate:
        """In another unit; ``factor`` is positive."""
        return Estimate(*(factor * x for x in self))

    def __str__(self) -> str:
        digits = 1 if abs(self.value) >= 10.0 else 2
        ends = f"{self.low:.{digits}f}, {self.high:.{digits}f}"
        return f"{self.value:.{digits}f} [{'no interval' if isnan(self.low) else ends}]"


def mean(scores: Scores) -> Estimate:
    """Mean over pairs of the mean over seeds."""
    return _estimate(scores, lambda *parts: np.mean([part.mean(-1) for part in parts], axis=0))


def interquartile_mean(scores: Scores) -> Estimate:
    """Mean of the middle half of all scores, of all pairs together."""
    return _estimate(scores, lambda *parts: _trimmed(np.concatenate(parts, axis=-1)))


def optimality_gap(scores: Scores) -> Estimate:
    """By how much scores fall short of 1: the mean of ``max(0, 1 - score)``."""
    return _estimate(
        scores, lambda *parts: np.maximum(1.0 - np.concatenate(parts, axis=-1), 0.0).mean(-1)
    )


def profile(scores: Scores, thresholds: np.ndarray) -> list[Estimate]:
    """The share of scores above each threshold (a performance profile)."""
    return [
        _estimate(scores, lambda *parts, at=at: (np.concatenate(parts, axis=-1) > at).mean(-1))
        for at in thresholds
    ]


def improvement_probability(scores: Scores, others: Scores, *, paired: bool) -> Estimate:
    """How probably a run of the first arm is better than one of the second, on a pair at random.

    The mean over pairs of ``P(X > Y) + P(X = Y) / 2``, over all combinations of their seeds.

    Args:
        scores, others: of two arms, the same pairs in the same order.
        paired: whether position i of both is the same seed.
    """

    def better(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        above = x[..., :, None] - y[..., None, :]
        return ((above > 0.0) + 0.5 * (above == 0.0)).mean((-2, -1))

    return _compare(scores, others, better, paired)


def difference(scores: Scores, others: Scores, *, paired: bool) -> Estimate:
    """Mean over pairs of the difference of the means over seeds; see `improvement_probability`."""
    return _compare(scores, others, lambda x, y: x.mean(-1) - y.mean(-1), paired)


def _trimmed(values: np.ndarray) -> np.ndarray:
    return np.asarray(stats.trim_mean(values, 0.25, axis=-1))


def _estimate(scores: Scores, statistic: Callable[..., np.ndarray]) -> Estimate:
    """``statistic`` of ``[..., seeds]`` by pair, over the last axis."""
    positions = [np.arange(len(part)) for part in scores]

    def of(*drawn: np.ndarray) -> np.ndarray:
        return statistic(*(part[at] for part, at in zip(scores, drawn, strict=True)))

    return _interval(positions, of)


def _compare(
    scores: Scores,
    others: Scores,
    statistic: Callable[[np.ndarray, np.ndarray], np.ndarray],
    paired: bool,
) -> Estimate:
    """The mean over pairs of a statistic of two arms."""
    pairs, firsts = len(scores), [np.arange(len(part)) for part in scores]
    seconds = [] if paired else [np.arange(len(part)) for part in others]

    def of(*drawn: np.ndarray) -> np.ndarray:
        left, right = drawn[:pairs], drawn[:pairs] if paired else drawn[pairs:]
        parts = [
            statistic(x[i], y[j]) for x, y, i, j in zip(scores, others, left, right, strict=True)
        ]
        return np.mean(parts, axis=0)

    return _interval([*firsts, *seconds], of)


def _level(sizes: Sequence[int]) -> float:
    """The level of a percentile interval that covers about `CONFIDENCE` with so few seeds.

    A bootstrap draw of n has ``sqrt((n - 1) / n)`` of the spread that it estimates, and knows the
    spread from n values alone: ``1 - 2 Φ(-sqrt(n / (n - 1)) t)``, t of ``Σ (n - 1)`` degrees.
    """
    least, freedom = min(sizes), sum(size - 1 for size in sizes)
    quantile = stats.t.ppf((1.0 + CONFIDENCE) / 2.0, freedom) * (least / (least - 1)) ** 0.5
    return float(1.0 - 2.0 * stats.norm.sf(quantile))


def _interval(positions: Sequence[np.ndarray], statistic: Callable[..., np.ndarray]) -> Estimate:
    """The statistic of all positions, and its percentile interval over draws of them.

    Args:
        positions: by stratum; strata are drawn from independently.
        statistic: of positions ``[..., n]`` by stratum, over the last axis.
    """
    value = float(statistic(*positions))
    if min(len(part) for part in positions) < 2:
        return Estimate(value, float("nan"), float("nan"))  # one seed has no interval
    result = stats.bootstrap(
        tuple(positions),
        lambda *drawn, axis=-1: statistic(*drawn),
        n_resamples=RESAMPLES,
        confidence_level=_level([len(part) for part in positions]),
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng(0),  # the same numbers give the same page
    )
    return Estimate(value, *map(float, result.confidence_interval))
