"""Statistics of few seeds on several pairs, each with its 95 % interval.

The scores of an arm are a list with an array of seeds for each pair.

* `mean` and `difference` have Student's t intervals, whose degrees of freedom are Welch's and
  Satterthwaite's over the pairs. They hold for few seeds.
* The others have intervals of the stratified percentile bootstrap: seeds are drawn with replacement
  within each pair, so that pairs are strata. Percentiles of few values are those of their range, so
  there is no interval below `LEAST_SEEDS` seeds; above, they lie a little further out (`_level`).

Where two arms share seeds, a draw takes the same seeds of both.

Sources: Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice",
NeurIPS 2021; for the percentiles, Hesterberg, "What Teachers Should Know about the Bootstrap",
The American Statistician 69 (2015), section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isnan, nan
from typing import NamedTuple

import numpy as np
from scipy import stats

RESAMPLES = 2000
CONFIDENCE = 0.95
LEAST_SEEDS = 8  # of a pair, for a bootstrap interval

Scores = Sequence[np.ndarray]  # by pair, float [seeds]


class Estimate(NamedTuple):
    """A statistic and the ends of its interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        digits = 1 if abs(self.value) >= 10.0 else 2
        ends = f"{self.low:.{digits}f}, {self.high:.{digits}f}"
        return f"{self.value:.{digits}f} [{'no interval' if isnan(self.low) else ends}]"


def mean(scores: Scores) -> Estimate:
    """Mean over pairs of the mean over seeds."""
    return _student(float(np.mean([part.mean() for part in scores])), scores, len(scores))


def difference(scores: Scores, others: Scores, *, paired: bool) -> Estimate:
    """Mean over pairs of the difference of the means over seeds.

    Args:
        scores, others: of two arms, the same pairs in the same order.
        paired: whether position i of both is the same seed.
    """
    value = mean(scores).value - mean(others).value
    if paired:
        return _student(value, [x - y for x, y in zip(scores, others, strict=True)], len(scores))
    return _student(value, [*scores, *others], len(scores))


def ratio(scores: np.ndarray, others: np.ndarray) -> Estimate | None:
    """The mean of one arm as a multiple of another's on a pair; None where that is not positive.

    The interval is that of the ratio of two means (delta method), with Student's t.
    """
    if others.mean() <= 0.0:
        return None
    value = float(scores.mean() / others.mean())
    return _student(value, [scores / others.mean(), value * others / others.mean()], 1)


def _student(value: float, parts: Scores, pairs: int) -> Estimate:
    """The interval of a sum of independent means over ``pairs``: ``value ± t s``."""
    if min(len(part) for part in parts) < 2:
        return Estimate(value, nan, nan)  # one seed has no interval
    freedom = np.array([len(part) - 1 for part in parts])
    variances = np.array([part.var(ddof=1) / len(part) for part in parts]) / pairs**2
    total = float(variances.sum())
    if total == 0.0:
        return Estimate(value, value, value)
    degrees = total**2 / float((variances**2 / freedom).sum())
    half = float(stats.t.ppf((1.0 + CONFIDENCE) / 2.0, degrees)) * total**0.5
    return Estimate(value, value - half, value + half)


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
    if min(len(part) for part in positions) < LEAST_SEEDS:
        return Estimate(value, nan, nan)
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
