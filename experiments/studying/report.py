"""The page of a study: tables with intervals and the published values, and what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.studying import statistics
from experiments.studying.latents import draw_latents
from experiments.studying.pictures import draw
from experiments.studying.published import chosen_source, notes, published
from experiments.studying.results import (
    Record,
    merged,
    read_datasets,
    read_record,
    read_results,
    scores,
    values,
    write_results,
)
from experiments.studying.running import make_plan
from experiments.studying.statistics import Estimate, Scores
from experiments.studying.strips import draw_strips
from experiments.studying.study import Arm, Pair, Run, Study

_UNITS = {
    "return_mean": "Undiscounted return of an episode",
    "value_bias": "Value at the first state less the discounted return that follows",
    "wall_time": "Seconds of a run",
}


def write_report(name: str, study: Study, root: Path, out: Path) -> list[Path]:
    """Write ``NAME.json``, ``NAME.md`` and ``NAME.png`` into ``out``, and return their paths.

    Records of an earlier ``NAME.json`` are kept, so that results of several machines add up.

    Raises:
        ValueError: no run is finished, and none was before.
    """
    plan = make_plan(study, root)
    new = [read_record(root, run) for run in plan.finished]
    records = merged(read_results(out / f"{name}.json"), new, study)
    if not records:
        raise ValueError(f"No run of {name} below {root} is finished: start it with study run.")
    write_results(out / f"{name}.json", name, records, read_datasets(root, plan.runs))
    page, picture = out / f"{name}.md", out / f"{name}.png"
    parts = _page(name, study, records, plan.runs)
    page.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    draw(picture, study, records)
    written = [page, picture, out / f"{name}.json"]
    first = [run for run in plan.finished if run.seed == 0]
    for wanted, ending, drawing in (
        (study.strips, "strips", draw_strips),
        (study.latents, "latents", draw_latents),
    ):
        if wanted and first:
            written.append(out / f"{name}_{ending}.png")
            drawing(written[-1], root, first)
    return written


def together(
    first: Sequence[dict[int, float]], second: Sequence[dict[int, float]]
) -> tuple[Scores, Scores, bool]:
    """Two arms by pair, the same seeds in the same order where every pair shares two or more.

    Returns:
        Scores of both, and whether they are paired by seed.
    """
    shared = [sorted(set(a) & set(b)) for a, b in zip(first, second, strict=True)]
    paired = all(len(seeds) > 1 for seeds in shared)
    if not paired:
        shared = [[] for _ in shared]
    left, right = (
        [
            np.array([by_seed[s] for s in (seeds or sorted(by_seed))])
            for by_seed, seeds in zip(arm, shared, strict=True)
        ]
        for arm in (first, second)
    )
    return left, right, paired


def _page(name: str, study: Study, records: Sequence[Record], runs: Sequence[Run]) -> list[str]:
    parts = [
        f"# {study.title}",
        study.question,
        f"Refuted by: {study.refuted}",
        f"Written by `python -m experiments.study report {name}`: {len(records)} of {len(runs)} "
        f"runs are finished. {_UNITS[study.measure]}, mean over seeds with its 95 % interval "
        "(stratified percentile bootstrap over seeds); n is the number of seeds.",
        _by_pair(study, records),
    ]
    if study.measure == "return_mean" and all(pair.reference for pair in study.pairs):
        parts += [
            "Scores: 0 is random play, 1 the reference of the pair. "
            f"The comparisons are with {study.against}, paired by seed where both have it.",
            _over_pairs(study, records),
        ]
    parts += [_selection(records)] if any(r["selection"] for r in records) else []
    pictures = ["", *["_strips"] * study.strips, *["_latents"] * study.latents]
    parts += [f"![{name}]({name}{ending}.png)" for ending in pictures]
    return [*parts, *notes(study.table), _missing(records, runs)]


def _by_pair(study: Study, records: Sequence[Record]) -> str:
    """A line for each arm, a column for each pair; the paper's value beside ours."""
    lines = [
        f"| arm | {' | '.join(pair.name for pair in study.pairs)} |",
        "|---" * (len(study.pairs) + 1) + "|",
    ]
    for arm in study.arms:
        cells = [_cell(study, records, arm, pair) for pair in study.pairs]
        lines.append(f"| {arm.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _missing(records: Sequence[Record], runs: Sequence[Run]) -> str:
    """How many runs of each arm on each pair are missing."""
    there = {(r["pair"], r["arm"], r["seed"]) for r in records}
    counts: dict[str, int] = {}
    for run in runs:
        if (run.pair, run.arm, run.seed) not in there:
            name = f"{run.arm} on {run.pair}"
            counts[name] = counts[name] + 1 if name in counts else 1
    listed = ", ".join(f"{name} ({count})" for name, count in counts.items())
    return f"Missing runs: {listed}." if listed else "No run is missing."


def _cell(study: Study, records: Sequence[Record], arm: Arm, pair: Pair) -> str:
    found = list(values(records, arm.name, pair.name, study.measure).values())
    own = f"{_measured(study, records, found, pair)}, n={len(found)}" if found else "–"
    paper = published(study.table, arm, pair.name)
    if paper is None:
        return own
    mean, std = paper
    spread = "" if std is None else f" ± {std:g}"
    return f"{own}; paper {mean:g}{spread}"


def _measured(study: Study, records: Sequence[Record], found: list[float], pair: Pair) -> Estimate:
    """The mean of an arm's values, as a multiple of the study's ``ratio`` arm where it has one."""
    own = statistics.mean([np.array(found)])
    others = values(records, study.ratio, pair.name, study.measure) if study.ratio else {}
    return own.scaled(len(others) / sum(others.values())) if others else own


def _over_pairs(study: Study, records: Sequence[Record]) -> str:
    """Statistics over all pairs, of the arms that have a run on each."""
    against = next(arm for arm in study.arms if arm.name == study.against)
    base = scores(study, records, against)
    lines = [
        "| arm | interquartile mean | optimality gap | difference of means | probability of "
        "improvement |",
        "|---|---|---|---|---|",
    ]
    for arm in study.arms:
        own = scores(study, records, arm)
        if not all(own):
            lines.append(f"| {arm.name} | – | – | – | – |")
            continue
        parts = [np.array(list(by_seed.values())) for by_seed in own]
        cells = [str(f(parts)) for f in (statistics.interquartile_mean, statistics.optimality_gap)]
        if arm.name == study.against or not all(base):
            cells += ["", ""]
        else:
            left, right, paired = together(own, base)
            cells += [
                str(statistics.difference(left, right, paired=paired)),
                str(statistics.improvement_probability(left, right, paired=paired)),
            ]
        lines.append(f"| {arm.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _selection(records: Sequence[Record]) -> str:
    """How often each source was chosen, mean over seeds; Table 13's choice beside it."""
    lines = ["| pair | arm | share of the updates by source | paper |", "|---|---|---|---|"]
    groups: dict[tuple[str, str], list[dict[str, float]]] = {}
    for record in records:
        if record["selection"]:
            groups.setdefault((record["pair"], record["arm"]), []).append(record["selection"])
    for (pair, arm), chosen in groups.items():
        shares = {name: np.mean([c[name] for c in chosen]) for name in chosen[0]}
        text = ", ".join(f"{name} {share:.2f}" for name, share in shares.items())
        lines.append(f"| {pair} | {arm} | {text} | {chosen_source(f'{pair}-multi') or ''} |")
    return "\n".join(lines)
