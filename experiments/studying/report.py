"""The page of a study: tables with intervals and the published values, and what is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from experiments.studying import statistics, tables
from experiments.studying.clock import Clock, make_clock
from experiments.studying.latents import draw_latents
from experiments.studying.pictures import draw
from experiments.studying.published import further_table, notes, published, published_average
from experiments.studying.results import (
    Record,
    merged,
    merged_datasets,
    read_datasets,
    read_record,
    read_results,
    write_results,
)
from experiments.studying.running import make_plan
from experiments.studying.sources import best_sources, choices, draw_map
from experiments.studying.strips import ROLLOUT, draw_strips
from experiments.studying.study import NEGATIVE, Run, Study, find_study, study_names
from experiments.studying.sweeps import draw_sweeps, sweeps

_UNITS = {
    "return_mean": "Undiscounted return of an episode",
    "value_bias": "Value less the discounted return that follows, mean over the states of an "
    "episode whose return is nearly complete",
    "cumulative_bias": "The sum of an episode's values, less the episode's discounted return "
    "(Figure 5b)",
    "minutes": "Minutes of a run",
    "episode_seconds": "Seconds of an episode in the last evaluation, all workers together, "
    "simulator included; nothing is learnt meanwhile",
}
_BETTER = {
    "return_mean": "has a higher return",
    "value_bias": "has a value bias nearer to 0",
    "minutes": "takes less time",
}
_COMPARED = {"value_bias": "absolute value of the bias"}
_REFERENCES = (
    "Dotted lines in the picture are the mean returns of random play, below, and of the pair's "
    "reference, above; the reference of a planar task is a scripted controller:"
)
_BANDS = (
    "Bands in the picture are 95 % intervals; a panel cuts one that is much wider than its curves."
)
_LAST_VALUES = (
    "The last values of the target's updates and evaluations, mean over n seeds with its 95 % "
    "interval:"
)
_BEST = (
    "The best single source of each target. The best of several means is too high by chance, the "
    "more so the more sources there are:"
)
_CHOICES = (
    "The choice among several sources, mean over n seeds with its 95 % interval. The share is that "
    "of the target's updates; a flat softmax, whose entropy is high, has a small distance to "
    "anything:"
)


def write_report(name: str, study: Study, root: Path, out: Path) -> list[Path]:
    """Write ``NAME.json``, ``NAME.md`` and ``NAME.png`` into ``out``, and return their paths.

    Records of an earlier ``NAME.json`` enter where their settings are those of the study, so that
    results of several machines add up. The others, say of another size, are kept and counted.

    Raises:
        ValueError: no run is finished, and none was before.
    """
    plan = make_plan(study, root)
    old, data = read_results(out / f"{name}.json")
    new = [read_record(root, run) for run in plan.finished]
    records, others = merged(old, new, plan.runs)
    if not records:
        raise ValueError(
            f"No run of {name} below {root} is finished: run `python -m experiments.study run "
            f"{name} --root={root}` first."
        )
    data = merged_datasets(data, read_datasets(root, plan.finished), [*records, *others])
    write_results(out / f"{name}.json", name, records, others, data)
    clock = make_clock(records, plan.runs)
    draw(out / f"{name}.png", study, records, clock)
    drawn, facts = _further_pictures(name, study, root, out, plan.finished)
    drawn += _maps_and_sweeps(name, study, out, records, plan.runs)
    parts = [
        *_head(name, study, records, plan.runs),
        *_compared(study, records),
        *_further_tables(study, records, clock),
        *(f"![{picture.stem}]({picture.name})" for picture in (out / f"{name}.png", *drawn)),
        *facts,
        tables.datasets(records, data),
        *notes(study.table),
        _missing(records, plan.runs),
        _kept(others),
    ]
    page = out / f"{name}.md"
    page.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")
    return [page, out / f"{name}.png", *drawn, out / f"{name}.json"]


def _further_pictures(
    name: str, study: Study, root: Path, out: Path, finished: Sequence[Run]
) -> tuple[list[Path], list[str]]:
    """Those that need the workdirs of the first seed, and sentences on what they show."""
    first = [run for run in finished if run.seed == study.first_seed]
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


def _maps_and_sweeps(
    name: str, study: Study, out: Path, records: Sequence[Record], runs: Sequence[Run]
) -> list[Path]:
    """The transfer map of a study of multiples, and the sweeps of one that varies numbers."""
    drawn = []
    if study.ratio:
        drawn.append(out / f"{name}_map.png")
        draw_map(drawn[-1], study, records)
    varied = sweeps(study, runs)
    if varied:
        drawn.append(out / f"{name}_sweeps.png")
        draw_sweeps(drawn[-1], study, records, varied)
    return drawn


def _head(name: str, study: Study, records: Sequence[Record], runs: Sequence[Run]) -> list[str]:
    """What is asked, what was found, and the first table."""
    unit = f"Multiple of {study.ratio}'s mean" if study.ratio else _UNITS[study.measure]
    own_size = name in study_names() and find_study(name).size == study.size
    size = "" if own_size else f" --size={study.size}"
    return [
        f"# {study.title}",
        study.question,
        f"{NEGATIVE} {study.negative}",
        *study.found,
        f"{len(records)} of {len(runs)} runs are finished, at size `{study.size}`. `python -m "
        f"experiments.study run {name}{size} --root=DIR` makes them, `report` in place of `run` "
        "writes this page. `experiments/studying/statistics.py` says how the intervals are made. A "
        "value without an interval is that of one seed, or of seeds that do not differ.",
        *mixed_data(study, records),
        f"{unit}: mean over n seeds with its 95 % interval.",
        *_of_the_paper(study),
        tables.by_pair(study, records),
    ]


def _of_the_paper(study: Study) -> list[str]:
    """What to know of the paper's values that stand beside ours."""
    printed = [published(study.table, arm, pair.name) for arm in study.arms for pair in study.pairs]
    found = [one for one in printed if one is not None]
    said = []
    if found and study.size != "paper":
        said.append(
            f"The paper's values stand beside runs of another size, `{study.size}`, which are "
            "smaller and shorter than the paper's: the two are not to be compared."
        )
    if any(std is not None for _, std in found):
        said.append(
            "The paper's ± is a standard deviation, not an interval. Its captions say 10 episodes "
            "and 3 seeds; over which of the two it is taken is not known."
        )
    return said


def _compared(study: Study, records: Sequence[Record]) -> list[str]:
    """The arms compared with the baseline on each pair, and over all pairs."""
    baseline, parts = study.baseline_arm.name, []
    compared = "return" if study.ratio else _COMPARED.get(study.measure)
    of = f" of the {compared}" if compared else ""
    captions = {
        f"Difference{of} to {baseline}, mean with its 95 % interval. Where both arms have two "
        "seeds or more in common, those n seeds are paired:": tables.differences(study, records),
        f"Probability of improvement: how probably a run {_BETTER[study.measure]} than one of "
        f"{baseline}, with its 95 % interval. Where seeds are paired, a run is compared with those "
        "of other seeds:": tables.improvements(study, records),
    }
    for caption, found in captions.items():
        parts += [caption, found] if found else []
    together = tables.over_pairs(study, records)
    if not together:
        return parts
    said = "Over all pairs, which weigh alike, of the arms that have a run on each."
    if tables.is_scored(study):
        said += " A score is 0 for random play and 1 for the reference of the pair."
    names = [pair.name for pair in study.pairs]
    if any(published_average(study.table, arm, names) is not None for arm in study.arms):
        said += " The paper's averages are computed from its rows."
    return [*parts, said, together]


def _further_tables(study: Study, records: Sequence[Record], clock: Clock) -> list[str]:
    """Tables that only some studies have; before the pictures."""
    parts = [_BEST, tables.table(*best_sources(study, records))] if study.ratio else []
    for measure in study.further:
        beside = further_table(study.table, measure)
        parts += [
            f"{_UNITS[measure]}, mean over n seeds with its 95 % interval:",
            tables.by_pair(study._replace(measure=measure, table=beside, ratio=""), records),
        ]
    if study.share is not None:
        parts += [
            f"When an evaluation first reached {study.share:.0%} of the reference, median over "
            f"seeds with its interval{_confidence(study, records)}:",
            tables.times(study, records, clock),
        ]
    selection, watched = choices(records), tables.grouped(records, "last_metrics")
    parts += [_CHOICES, tables.table(*selection)] if selection[1] else []
    parts += [_LAST_VALUES, tables.last_metrics(watched)] if watched else []
    if any(pair.reference for pair in study.pairs):
        parts += [_REFERENCES, tables.references(study)]
    return [*parts, _BANDS]


def _confidence(study: Study, records: Sequence[Record]) -> str:
    """How sure the intervals of medians are, where the seeds are too few for 95 %."""
    fewest = min(Counter((record["pair"], record["arm"]) for record in records).values())
    sure = statistics.median_confidence(fewest)
    if sure >= statistics.CONFIDENCE:
        return " of 95 %"
    return (
        f". An interval from the least to the greatest of {fewest} seeds covers the true median "
        f"with {100.0 * sure:.0f} %; six seeds would give 95 %"
    )


def mixed_data(study: Study, records: Sequence[Record]) -> list[str]:
    """A warning or a note for each pair whose runs learned from different datasets."""
    said = []
    for pair in study.pairs:
        learned = [r for r in records if r["pair"] == pair.name and r["data_digest"]]
        unlike = tables.differing_data(learned, {arm.name for arm in study.arms}, {pair.name})
        seeds = sorted({seed for _, seed in unlike})
        arms: dict[str, dict[str, None]] = {}  # by dataset, in the order of the records
        for record in learned:
            if not seeds or record["seed"] in seeds:
                arms.setdefault(record["data_digest"], {})[record["arm"]] = None
        if seeds:
            each = "; ".join(f"{', '.join(names)} from {key[:8]}" for key, names in arms.items())
            said.append(
                f"**On {pair.name} the arms of some seeds learned from different datasets** "
                f"(seeds: {', '.join(map(str, seeds))}): {each}. The tables of differences compare "
                "a seed of two arms only where its dataset is the same."
            )
        elif len(arms) > 1:
            said.append(
                f"The seeds on {pair.name} learned from {len(arms)} datasets; all arms of a "
                "seed learned from the same one."
            )
    return said


def _missing(records: Sequence[Record], runs: Sequence[Run]) -> str:
    """How many runs of each arm on each pair are missing."""
    there = {(r["pair"], r["arm"], r["seed"]) for r in records}
    counts = Counter(
        f"{run.arm} on {run.pair}" for run in runs if (run.pair, run.arm, run.seed) not in there
    )
    listed = ", ".join(f"{name} ({count})" for name, count in counts.items())
    return f"Missing runs: {listed}." if listed else "No run is missing."


def _kept(others: Sequence[Record]) -> str:
    """How many records there are that do not belong to the study as it is; "" for none."""
    if not others:
        return ""
    return (
        "Records of earlier reports that have other settings than the runs of this page, kept in "
        f"the JSON file under `other_settings`: {len(others)}. They enter no table."
    )
