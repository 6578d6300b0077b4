"""Statistics of studies: cases worked by hand, and the coverage of the intervals."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.studying import statistics


def test_the_interquartile_mean_is_that_of_the_middle_half_of_all_pairs_together():
    scores = [np.array([0.0, 9.0, 1.0, 2.0]), np.array([3.0, -5.0, 4.0, 100.0])]
    # Sorted: -5 0 1 2 3 4 9 100; the middle half is 1 2 3 4.
    assert statistics.interquartile_mean(scores).value == 2.5


def test_pairs_weigh_alike_in_the_mean_whatever_their_seeds():
    scores = [np.array([1.0, 1.0, 1.0, 1.0]), np.array([3.0, 3.0])]
    estimate = statistics.mean(scores)
    assert estimate == (2.0, 2.0, 2.0)


def test_the_optimality_gap_counts_no_surplus():
    assert statistics.optimality_gap([np.array([0.5, 2.0, 1.0, 0.0])]).value == 1.5 / 4


def test_the_profile_is_the_share_of_runs_above_each_threshold():
    scores = [np.array([0.1, 0.4]), np.array([0.6, 0.9])]
    shares = [e.value for e in statistics.profile(scores, np.array([0.0, 0.5, 0.6, 1.0]))]
    assert shares == [1.0, 0.5, 0.25, 0.0]


def test_the_probability_of_improvement_counts_ties_half():
    first, second = [np.array([1.0, 2.0])], [np.array([1.0, 0.0])]
    # 1 = 1, 1 > 0, 2 > 1, 2 > 0: (0.5 + 1 + 1 + 1) / 4.
    estimate = statistics.improvement_probability(first, second, paired=False)
    assert estimate.value == 3.5 / 4
    mirrored = statistics.improvement_probability(second, first, paired=False)
    assert mirrored.value == 0.5 / 4


def test_what_seeds_share_cancels_in_a_paired_difference():
    generator = np.random.default_rng(1)
    luck, noise = generator.normal(0, 1, 20), generator.normal(0, 0.05, (2, 20))
    first, second = [luck + noise[0] + 0.3], [luck + noise[1]]
    paired = statistics.difference(first, second, paired=True)
    apart = statistics.difference(first, second, paired=False)
    assert paired.value == apart.value
    assert paired.low > 0.2 and apart.low < 0.0


def test_one_seed_has_no_interval():
    estimate = statistics.mean([np.array([1.0]), np.array([2.0, 3.0])])
    assert estimate.value == 1.75 and np.isnan(estimate.low) and np.isnan(estimate.high)
    few = statistics.interquartile_mean([np.arange(7.0)])
    assert few.value == 3.0 and np.isnan(few.low)


def test_students_interval_by_hand():
    # Mean 2, variance 1, n = 3: 2 ± 4.3027 / √3.
    estimate = statistics.mean([np.array([1.0, 2.0, 3.0])])
    assert estimate.high - estimate.value == pytest.approx(4.302653 / 3**0.5, rel=1e-6)
    assert estimate.value - estimate.low == pytest.approx(4.302653 / 3**0.5, rel=1e-6)


def test_a_ratio_needs_a_positive_mean_below():
    assert statistics.ratio(np.array([2.0, 4.0]), np.array([1.0, 1.0])).value == 3.0
    assert statistics.ratio(np.array([2.0, 4.0]), np.array([-1.0, 1.0])) is None
    above = np.array([2.0, 4.0, 2.0, 4.0])
    apart = statistics.ratio(above, np.array([1.0, 3.0, 1.0, 3.0]))
    alone = statistics.ratio(above, np.full(4, 2.0))
    assert apart.value == alone.value == 1.5
    assert apart.high - apart.low > alone.high - alone.low


CASES = [  # statistic, seeds of each pair, their spreads
    ("mean", (3,), (0.2,)),
    ("mean", (5,), (0.2,)),
    ("mean", (3, 3, 3), (0.2, 0.2, 0.2)),
    ("mean", (20, 20, 20), (0.1, 0.3, 0.2)),
    ("difference", (3, 3, 3), (0.2, 0.2, 0.2)),
    ("difference", (20, 20, 20), (0.1, 0.3, 0.2)),
    ("interquartile_mean", (20, 20, 20), (0.2, 0.2, 0.2)),
]


@pytest.mark.slow
@pytest.mark.parametrize("statistic, seeds, spreads", CASES)
def test_intervals_cover_the_truth_in_95_of_100_studies(statistic, seeds, spreads, monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 500)
    generator, covered, studies = np.random.default_rng(0), 0, 1000
    middles = np.linspace(0.3, 0.7, len(seeds)) if len(seeds) > 1 else [0.5]
    for _ in range(studies):
        scores = [generator.normal(*of) for of in zip(middles, spreads, seeds)]
        if statistic == "difference":
            others = [part + generator.normal(-0.1, 0.1, len(part)) for part in scores]
            estimate, truth = statistics.difference(scores, others, paired=True), 0.1
        else:
            estimate, truth = getattr(statistics, statistic)(scores), 0.5
        covered += estimate.low <= truth <= estimate.high
    assert 0.92 <= covered / studies <= 0.98
