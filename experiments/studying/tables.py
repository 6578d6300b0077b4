"""The tables of a study's page. Every estimate in them has an interval."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from math import inf, nan

import numpy as np

from experiments.studying import statistics
from experiments.studying.clock import Clock
from experiments.studying.published import published, published_average
from experiments.studying.results import WATCHED, Datasets, Record, scores, values
from experiments.studying.statistics import Estimate, Scores
from experiments.studying.study import Arm, Pair, Study

Groups = dict[tuple[str, str], list[dict[str, float]]]  # by pair and arm

_COLUMNS = 8  # pairs side by side, at most
_RETURNS = {"mean": "mean return", "min": "least", "max": "greatest"}
NONE = "–"  # in a cell
ARM = "arm of the study"  # the head of a column; a pair may be named arm


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _grid(study: Study, arms: Sequence[Arm], cell: Callable[[Arm, Pair], str]) -> str:
    """A line for each arm and a column for each pair, or the other way round for many pairs."""
    rows: list[tuple[str, list[str]]]
    if len(study.pairs) <= _COLUMNS:
        head = [ARM, *(pair.name for pair in study.pairs)]
        rows = [(arm.name, [cell(arm, pair) for pair in study.pairs]) for arm in arms]
    else:
        head = ["pair", *(arm.name for arm in arms)]
        rows = [(pair.name, [cell(arm, pair) for arm in arms]) for pair in study.pairs]
    return table(head, [[name, *cells] for name, cells in rows])


def is_scored(study: Study) -> bool:
    """Whether all pairs have references that returns are measured by."""
    return study.measure == "return_mean" and all(pair.reference for pair in study.pairs)


def paired_by_seed(
    first: Sequence[dict[int, float]], second: Sequence[dict[int, float]]
) -> tuple[Scores, Scores, bool]:
    """Two arms by pair: the seeds that both have, where every pair shares two or more of them.

    Returns:
        Scores of both, and whether position i of both is the same seed; if not, all seeds.
    """
    shared = [sorted(set(a) & set(b)) for a, b in zip(first, second, strict=True)]
    paired = all(len(seeds) > 1 for seeds in shared)
    left, right = (
        [
            np.array([by_seed[s] for s in (seeds if paired else sorted(by_seed))])
            for by_seed, seeds in zip(arm, shared, strict=True)
        ]
        for arm in (first, second)
    )
    return left, right, paired


def _against_baseline(
    study: Study,
    records: Sequence[Record],
    arm: Arm,
    pairs: Sequence[Pair],
    *,
    scored: bool = False,
) -> tuple[Scores, Scores, bool] | None:
    """What `paired_by_seed` makes of an arm and the baseline.

    A seed of which the two learned from different datasets enters neither. None where either has no
    run on a pair, or where such seeds leave fewer than two in common.

    Args:
        scored: scores are compared, and not the study's measure.
    """
    measure = "absolute_bias" if study.measure == "value_bias" else study.measure
    compared = [pair.name for pair in pairs]
    own, base = (
        scores(study._replace(pairs=tuple(pairs)), records, one)
        if scored
        else [values(records, one.name, name, measure) for name in compared]
        for one in (arm, study.baseline_arm)
    )
    unlike = set(differing_data(records, (arm.name, study.baseline_arm.name), compared))
    own, base = (
        [
            {seed: value for seed, value in by_seed.items() if (name, seed) not in unlike}
            for name, by_seed in zip(compared, one, strict=True)
        ]
        for one in (own, base)
    )
    if not all(own) or not all(base):
        return None
    left, right, paired = paired_by_seed(own, base)
    return None if unlike and not paired else (left, right, paired)


def differing_data(
    records: Sequence[Record], arms: Collection[str], pairs: Collection[str]
) -> list[tuple[str, int]]:
    """The pairs and seeds on which two of the arms learned from different datasets."""
    found: dict[tuple[str, int], set[str]] = {}
    for record in records:
        if record["arm"] in arms and record["pair"] in pairs and record["data_digest"]:
            found.setdefault((record["pair"], record["seed"]), set()).add(record["data_digest"])
    return [where for where, digests in found.items() if len(digests) > 1]


def _if_known(estimate: Estimate) -> str:
    """A comparison of arms, if it has an interval: one of single runs says nothing."""
    return str(estimate) if estimate.is_known else NONE


def _if_any(grid: str) -> str:
    """A table, or "" where no cell of it has an interval."""
    return grid if "[" in grid else ""


def _others(study: Study) -> list[Arm]:
    return [arm for arm in study.arms if arm != study.baseline_arm]


def _beside(text: str, paper: str | None) -> str:
    """A cell with the paper's value, if there is one."""
    return text if paper is None else f"{text}; paper {paper}"


def by_pair(study: Study, records: Sequence[Record]) -> str:
    """Each arm on each pair; the paper's value beside ours."""

    def cell(arm: Arm, pair: Pair) -> str:
        own, count = average(study, records, arm, [pair])
        printed = published(study.table, arm, pair.name)
        text = NONE if own is None else f"{own}, n={count}"
        if printed is None:
            return text
        value, std = printed
        return _beside(text, f"{value:g}" if std is None else f"{value:g} ± {std:g}")

    return _grid(study, study.arms, cell)


def average(
    study: Study, records: Sequence[Record], arm: Arm, pairs: Sequence[Pair]
) -> tuple[Estimate | None, int]:
    """The measure of an arm, mean over pairs, and its runs; None where it has none on a pair."""

    def found(name: str) -> list[np.ndarray]:
        by_seed = [values(records, name, pair.name, study.measure) for pair in pairs]
        return [np.array(list(one.values())) for one in by_seed]

    own = found(arm.name)
    count = sum(map(len, own))
    if not all(map(len, own)):
        return None, count
    if not study.ratio:
        return statistics.mean(own), count
    others = found(study.ratio)
    if not all(map(len, others)):
        return None, count
    if arm.name == study.ratio:
        known = min(part.mean() for part in others) > 0.0
        return Estimate(1.0, nan, nan) if known else None, count
    return statistics.ratio(own, others), count


def differences(study: Study, records: Sequence[Record]) -> str:
    """Each arm but the baseline, less the baseline, with the seeds that enter; "" without any."""

    def cell(arm: Arm, pair: Pair) -> str:
        both = _against_baseline(study, records, arm, [pair])
        if both is None:
            return NONE
        (left,), (right,), paired = both
        seeds = f"{len(left)}" if paired else f"{len(left)} and {len(right)}"
        found = _if_known(statistics.difference([left], [right], paired=paired))
        return found if found == NONE else f"{found}, n={seeds}"

    return _if_any(_grid(study, _others(study), cell))


def _improvement(study: Study, records: Sequence[Record], arm: Arm, pairs: Sequence[Pair]) -> str:
    both = _against_baseline(study, records, arm, pairs)
    if both is None:
        return NONE
    left, right, paired = both
    if study.measure != "return_mean":  # a smaller bias, or less time, is better
        left, right = right, left
    return _if_known(statistics.improvement_probability(left, right, paired=paired))


def improvements(study: Study, records: Sequence[Record]) -> str:
    """On each pair, how probably an arm is better than the baseline; "" where none is known."""

    def cell(arm: Arm, pair: Pair) -> str:
        return _improvement(study, records, arm, [pair])

    return _if_any(_grid(study, _others(study), cell))


def over_pairs(study: Study, records: Sequence[Record]) -> str:
    """Statistics over all pairs, of the arms that have a run on each; "" where there are none."""
    scored, several = is_scored(study), len(study.pairs) > 1
    compared, rows = several and len(study.arms) > 1, []
    for arm in study.arms:
        overall, _ = average(study, records, arm, study.pairs)
        if overall is None:
            continue
        cells = _of_scores(study, records, arm) if scored else [_of_returns(study, arm, overall)]
        if compared and arm == study.baseline_arm:
            cells += [""] * (1 + scored)
        elif compared:
            cells += [_score_difference(study, records, arm)] if scored else []
            cells += [_improvement(study, records, arm, study.pairs)]
        rows.append([arm.name, *cells])
    head = ["interquartile mean", "optimality gap"] if scored else ["average over pairs"]
    if compared:
        head += [f"mean score less that of {study.baseline_arm.name}"] if scored else []
        head += ["probability of improvement"]
    return _if_any(table([ARM, *head], rows)) if rows and (several or scored) else ""


def _of_scores(study: Study, records: Sequence[Record], arm: Arm) -> list[str]:
    """The interquartile mean and the optimality gap of an arm."""
    parts = [np.array(list(by_seed.values())) for by_seed in scores(study, records, arm)]
    return [str(statistics.interquartile_mean(parts)), str(statistics.optimality_gap(parts))]


def _of_returns(study: Study, arm: Arm, overall: Estimate) -> str:
    """The average of an arm over pairs, and the paper's."""
    printed = published_average(study.table, arm, [pair.name for pair in study.pairs])
    return _beside(str(overall), None if printed is None else f"{printed:.5g}")


def _score_difference(study: Study, records: Sequence[Record], arm: Arm) -> str:
    """The mean score over pairs of an arm, less that of the baseline."""
    both = _against_baseline(study, records, arm, study.pairs, scored=True)
    if both is None:
        return NONE
    left, right, paired = both
    return _if_known(statistics.difference(left, right, paired=paired))


def references(study: Study) -> str:
    """Returns that scores are measured by."""
    return table(
        ["pair", "random play", "reference"],
        [
            [pair.name, f"{pair.reference.low:g}", f"{pair.reference.high:g}"]
            for pair in study.pairs
            if pair.reference is not None
        ],
    )


def times(study: Study, records: Sequence[Record], clock: Clock) -> str:
    """When a share of the high reference was first reached in an evaluation.

    Medians over seeds, each with the interval of `statistics.median`.
    """
    assert study.share is not None
    rows = []
    for pair in study.pairs:
        for arm in study.arms:
            own = [r for r in records if (r["pair"], r["arm"]) == (pair.name, arm.name)]
            if not own or pair.reference is None:
                continue
            wanted = study.share * pair.reference.high
            first = [next((at for at, value in r["curve"] if value >= wanted), None) for r in own]
            updates = [inf if at is None else clock(r, at) for at, r in zip(first, own)]
            minutes = [
                inf if at is None else r["wall_time"] / 60.0 * at / r["updates"]
                for at, r in zip(first, own)
            ]
            reached = f"{sum(at is not None for at in first)} of {len(own)}"
            cells = [f"{statistics.median(np.array(updates)):,.0f}",
                     f"{statistics.median(np.array(minutes)):.1f}"]  # fmt: skip
            shown = [cell.replace("inf", "never") for cell in cells]
            rows.append([pair.name, arm.name, reached, *shown])
    head = ["pair", ARM, f"seeds that reach {study.share:.0%} of the reference"]
    return table([*head, clock.label, "minutes, by that share of its updates"], rows)


def grouped(records: Sequence[Record], key: str) -> Groups:
    """What the records have under ``key``, by pair and arm; some have nothing."""
    groups: Groups = {}
    for record in records:
        if record[key]:
            groups.setdefault((record["pair"], record["arm"]), []).append(record[key])
    return groups


def mean_cell(found: Sequence[Mapping[str, float]], name: str, *, share: bool = False) -> str:
    """The mean with its interval of what is called ``name``, and its n where some runs lack it.

    Args:
        share: it is a share: its interval ends at 0 and 1.
    """
    known = [one[name] for one in found if name in one]
    if not known:
        return ""
    estimate = statistics.mean([np.array(known)])
    if share:
        value, low, high = estimate
        estimate = Estimate(value, float(np.maximum(low, 0.0)), float(np.minimum(high, 1.0)))
    fewer = f", n={len(known)}" if len(known) < len(found) else ""
    return f"{estimate:.2f}{fewer}" if share else f"{estimate:.3g}{fewer}"


def last_metrics(groups: Groups) -> str:
    """The last of the metrics `WATCHED`; empty where a method or a setting has no such term."""
    rows = []
    for (pair, arm), found in groups.items():
        rows.append([pair, arm, str(len(found)), *(mean_cell(found, name) for name in WATCHED)])
    return table(["pair", ARM, "n", *WATCHED.values()], rows)


def datasets(records: Sequence[Record], data: Datasets) -> str:
    """Each dataset, and what learned from it; "" where nothing did."""
    rows = []
    for name, versions in data.items():
        for digest, one in versions.items():
            seeds = sorted({r["seed"] for r in records if r["data_digest"] == digest})
            returns = one["returns"]
            cells = [name, digest[:8], ", ".join(map(str, seeds)), str(one["episodes"])]
            if seeds:
                rows.append([*cells, *(f"{returns[which]:.3g}" for which in _RETURNS)])
    head = ["dataset", "digest", "seeds", "episodes", *_RETURNS.values()]
    return table(head, rows) if rows else ""
