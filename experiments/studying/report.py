"""The page of a study: tables with intervals and the published values, and what is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from experiments.studying import statistics
from experiments.studying.latents import draw_latents
from experiments.studying.pictures import draw
from experiments.studying.published import notes, published
from experiments.studying.results import (
    WATCHED,
    Datasets,
    Record,
    merged,
    merged_datasets,
    read_datasets,
    read_record,
    read_results,
    scores,
    values,
    write_results,
)
from experiments.studying.running import make_plan
from experiments.studying.sources import best_sources, choices, draw_map
from experiments.studying.statistics import Estimate, Scores
from experiments.studying.strips import ROLLOUT, draw_strips
from experiments.studying.study import Arm, Pair, Run, Study
from experiments.studying.sweeps import draw_sweeps, sweeps

Groups = dict[tuple[str, str], list[dict[str, float]]]  # by pair and arm

_COLUMNS = 8  # pairs side by side, at most
_ARM = "arm of the study"  # the head of a column; a pair may be named arm
_LAST_VALUES = "The last values of the target's updates and evaluations, mean over seeds:"
_BEST = (
    "The best single source of each target. The best of several means is too high by chance, the "
    "more so the more sources there are:"
)
_CHOICES = (
    "The choice among several sources, mean over seeds. The share is that of the target's updates; "
    "a flat softmax, whose entropy is high, has a small distance to anything:"
)
_UNITS = {
    "return_mean": "Undiscounted return of an episode",
    "value_bias": "Critic's value less the discounted return that follows, mean over states",
    "cumulative_bias": "Sum of an episode's values less its discounted return (Figure 5b)",
    "minutes": "Minutes of a run",
}


def write_report(name: str, study: Study, root: Path, out: Path) -> list[Path]:
    """Write ``NAME.json``, ``NAME.md`` and ``NAME.png`` into ``out``, and return their paths.

    Records of an earlier ``NAME.json`` are kept where their settings are those of the study, so
    that results of several machines add up.

    Raises:
        ValueError: no run is finished, and none was before.
    """
    plan = make_plan(study, root)
    old, data = read_results(out / f"{name}.json")
    new = [read_record(root, run) for run in plan.finished]
    records = merged(old, new, plan.runs)
    if not records:
        raise ValueError(
            f"No run of {name} below {root} is finished: run `python -m experiments.study run "
            f"{name} --root={root}` first."
        )
    data = merged_datasets(data, read_datasets(root, plan.finished), records)
    write_results(out / f"{name}.json", name, records, data)
    draw(out / f"{name}.png", study, records)
    drawn, facts = _further_pictures(name, study, root, out, plan.finished)
    if study.ratio:
        drawn.append(out / f"{name}_map.png")
        draw_map(drawn[-1], study, records)
    varied = sweeps(study, plan.runs)
    if varied:
        drawn.append(out / f"{name}_sweeps.png")
        draw_sweeps(drawn[-1], study, records, varied)
    parts = _page(name, study, records, plan.runs, data)
    pictures = [f"![{picture.stem}]({picture.name})" for picture in drawn]
    ending = [*facts, *pictures, *notes(study.table), _missing(records, plan.runs)]
    page = out / f"{name}.md"
    page.write_text("\n\n".join([*parts, *ending]) + "\n", encoding="utf-8")
    return [page, out / f"{name}.png", *drawn, out / f"{name}.json"]


def _further_pictures(
    name: str, study: Study, root: Path, out: Path, finished: Sequence[Run]
) -> tuple[list[Path], list[str]]:
    """Those that need the workdirs of seed 0, and sentences on what they show."""
    first = [run for run in finished if run.seed == 0]
    strips = [run for run in first if (root / run.place / ROLLOUT).exists()]
    drawn, facts = [], []
    if study.strips and strips:
        drawn.append(out / f"{name}_strips.png")
        draw_strips(drawn[-1], root, strips)
    if study.latents and first:
        drawn.append(out / f"{name}_latents.png")
        for run, distance in zip(first, draw_latents(drawn[-1], root, first)):
            facts.append(f"{run.pair}, {run.arm}: distance of the embeddings {distance:.3g} nats.")
    return drawn, facts


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


def _page(
    name: str, study: Study, records: Sequence[Record], runs: Sequence[Run], data: Datasets
) -> list[str]:
    """The paragraphs of the page, without further pictures."""
    unit = f"Multiple of {study.ratio}'s mean" if study.ratio else _UNITS[study.measure]
    parts = [
        f"# {study.title}",
        study.question,
        f"What would refute the claim: {study.refuted}",
        *study.found,
        f"Written by `python -m experiments.study report {name}`. {len(records)} of {len(runs)} "
        f"runs are finished, at size `{study.size}`. {unit}: mean over n seeds with its 95 % "
        "interval.",
        *mixed_data(study, records),
        _by_pair(study, records),
    ]
    if len(study.arms) > 1:
        parts += [
            f"Difference to {study.baseline_arm.name}, mean with its 95 % interval, paired by seed "
            "where both arms have two seeds or more in common:",
            _differences(study, records),
        ]
    if study.ratio:
        parts += [_BEST, _table(*best_sources(study, records))]
    for measure in study.further:
        parts += [
            f"{_UNITS[measure]}, mean over n seeds with its 95 % interval:",
            _by_pair(study._replace(measure=measure, table="", ratio=""), records),
        ]
    scored = study.measure == "return_mean" and all(pair.reference for pair in study.pairs)
    if scored and any(all(scores(study, records, arm)) for arm in study.arms):
        parts += [
            "Over all pairs, of the arms that have a run on each. A score is 0 for random play and "
            "1 for the reference of the pair. The intervals are bootstrap intervals, which need "
            f"{statistics.LEAST_SEEDS} seeds on each pair; those above use Student's t. The last "
            f"column compares with {study.baseline_arm.name}.",
            _over_pairs(study, records),
        ]
    parts += [_times(study, records)] if study.share is not None else []
    watched, selection = _grouped(records, "last_metrics"), choices(records)
    parts += [_CHOICES, _table(*selection)] if selection[1] else []
    parts += [_LAST_VALUES, _last_metrics(watched)] if watched else []
    if any(pair.reference for pair in study.pairs):
        parts.append("Dotted lines in the picture: random play and the reference of the pair.")
    parts += [f"![{name}]({name}.png)"]
    return parts + ([_datasets(records, data)] if data else [])


def mixed_data(study: Study, records: Sequence[Record]) -> list[str]:
    """A warning or a note for each pair whose runs learned from different datasets."""
    said = []
    for pair in study.pairs:
        of_seed: dict[int, set[str]] = {}
        for record in records:
            if record["pair"] == pair.name and record["data_digest"]:
                of_seed.setdefault(record["seed"], set()).add(record["data_digest"])
        datasets = set().union(*of_seed.values())
        mixed = [str(seed) for seed, found in sorted(of_seed.items()) if len(found) > 1]
        if mixed:
            said.append(
                f"**Do not compare the arms on {pair.name}**: they learned from different datasets "
                f"with seed {', '.join(mixed)}."
            )
        elif len(datasets) > 1:
            said.append(
                f"The seeds on {pair.name} learned from {len(datasets)} datasets; all arms of a "
                "seed learned from the same one."
            )
    return said


def _datasets(records: Sequence[Record], data: Datasets) -> str:
    """Each dataset, and what learned from it."""
    rows = []
    for name, versions in data.items():
        for digest, one in versions.items():
            own = [record for record in records if record["data_digest"] == digest]
            seeds = sorted({record["seed"] for record in own})
            returns = one["returns"]
            spread = f"{returns['mean']:.3g} [{returns['min']:.3g}, {returns['max']:.3g}]"
            cells = (name, digest[:8], ", ".join(map(str, seeds)), str(one["episodes"]), spread)
            rows.append(cells)
    head = ["dataset", "digest", "seeds", "episodes", "return: mean [least, greatest]"]
    return _table(head, rows)


def _by_pair(study: Study, records: Sequence[Record]) -> str:
    """Each arm on each pair; the paper's value beside ours."""
    return _grid(study, study.arms, lambda arm, pair: _cell(study, records, arm, pair))


def _grid(study: Study, arms: Sequence[Arm], cell: Callable[[Arm, Pair], str]) -> str:
    """A line for each arm and a column for each pair, or the other way round for many pairs."""
    rows: list[tuple[str, list[str]]]
    if len(study.pairs) <= _COLUMNS:
        head = [_ARM, *(pair.name for pair in study.pairs)]
        rows = [(arm.name, [cell(arm, pair) for pair in study.pairs]) for arm in arms]
    else:
        head = ["pair", *(arm.name for arm in arms)]
        rows = [(pair.name, [cell(arm, pair) for arm in arms]) for pair in study.pairs]
    return _table(head, [[name, *cells] for name, cells in rows])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _missing(records: Sequence[Record], runs: Sequence[Run]) -> str:
    """How many runs of each arm on each pair are missing."""
    there = {(r["pair"], r["arm"], r["seed"]) for r in records}
    counts = Counter(
        f"{run.arm} on {run.pair}" for run in runs if (run.pair, run.arm, run.seed) not in there
    )
    listed = ", ".join(f"{name} ({count})" for name, count in counts.items())
    return f"Missing runs: {listed}." if listed else "No run is missing."


def _cell(study: Study, records: Sequence[Record], arm: Arm, pair: Pair) -> str:
    found = np.array(list(values(records, arm.name, pair.name, study.measure).values()))
    own: Estimate | None = statistics.mean([found]) if len(found) else None
    if study.ratio and own is not None:
        others = values(records, study.ratio, pair.name, study.measure)
        own = statistics.ratio(found, np.array(list(others.values()))) if others else None
    text = "–" if own is None else f"{own}, n={len(found)}"
    paper = published(study.table, arm, pair.name)
    if paper is None:
        return text
    mean, std = paper
    spread = "" if std is None else f" ± {std:g}"
    return f"{text}; paper {mean:g}{spread}"


def _differences(study: Study, records: Sequence[Record]) -> str:
    """Each arm but the baseline, less the baseline."""
    measure = "absolute_bias" if study.measure == "value_bias" else study.measure

    def cell(arm: Arm, pair: Pair) -> str:
        own, base = (
            values(records, name, pair.name, measure)
            for name in (arm.name, study.baseline_arm.name)
        )
        left, right, paired = paired_by_seed([own], [base])
        there = len(left[0]) and len(right[0])
        return str(statistics.difference(left, right, paired=paired)) if there else "–"

    return _grid(study, [arm for arm in study.arms if arm != study.baseline_arm], cell)


def _times(study: Study, records: Sequence[Record]) -> str:
    """When a share of the high reference was first reached in an evaluation."""
    assert study.share is not None
    rows = []
    for pair in study.pairs:
        for arm in study.arms:
            own = [r for r in records if (r["pair"], r["arm"]) == (pair.name, arm.name)]
            if not own or pair.reference is None:
                continue
            wanted = study.share * pair.reference.high
            first = [next((at for at, value in r["curve"] if value >= wanted), None) for r in own]
            reached = [
                (at, r["wall_time"] / 60.0 * at / r["updates"]) for at, r in zip(first, own) if at
            ]
            cells = ["never", "never"]
            if len(reached) == len(own):
                updates, minutes = (np.median(column) for column in zip(*reached))
                cells = [f"{updates:,.0f}", f"{minutes:.1f}"]
            elif reached:
                cells = [f"{len(reached)} of {len(own)} seeds"] * 2
            rows.append([pair.name, arm.name, *cells])
    head = ["pair", _ARM, f"updates to {study.share:.0%} of the reference", "minutes"]
    return _table(head, rows)


def _over_pairs(study: Study, records: Sequence[Record]) -> str:
    """Statistics over all pairs, of the arms that have a run on each."""
    base = scores(study, records, study.baseline_arm)
    rows = []
    for arm in study.arms:
        own = scores(study, records, arm)
        if not all(own):
            continue
        parts = [np.array(list(by_seed.values())) for by_seed in own]
        cells = [str(f(parts)) for f in (statistics.interquartile_mean, statistics.optimality_gap)]
        if arm == study.baseline_arm or not all(base):
            cells.append("")
        else:
            left, right, paired = paired_by_seed(own, base)
            cells.append(str(statistics.improvement_probability(left, right, paired=paired)))
        rows.append([arm.name, *cells])
    head = [_ARM, "interquartile mean", "optimality gap", "probability of improvement"]
    return _table(head, rows)


def _grouped(records: Sequence[Record], key: str) -> Groups:
    """What the records have under ``key``, by pair and arm; some have nothing, old ones no key."""
    groups: Groups = {}
    for record in records:
        if record.get(key):
            groups.setdefault((record["pair"], record["arm"]), []).append(record[key])
    return groups


def _last_metrics(groups: Groups) -> str:
    """The last of the metrics `WATCHED`; empty where a method or a setting has no such term."""
    rows = []
    for (pair, arm), found in groups.items():
        cells = [[one[name] for one in found if name in one] for name in WATCHED]
        means = [f"{np.mean(cell):.3g}" if cell else "" for cell in cells]
        rows.append([pair, arm, str(len(found)), *means])
    return _table(["pair", _ARM, "n", *WATCHED.values()], rows)
