"""What the finished runs of a study measured, as records: read from workdirs, kept as JSON.

A record is ``{"arm", "pair", "seed", "return_mean", "value_bias", "updates", "wall_time",
"episode_seconds", "selection", "by_source", "cumulative_bias", "last_metrics", "curve", "digest",
"settings_digest", "dataset", "data_digest"}``: the last evaluation, its number of updates, seconds
of the run and of an episode in evaluations, the share of the updates in which each source was
chosen, what `source_figures` finds, the last values of `WATCHED`, all evaluations as ``[updates,
return]``, the SHA-256 of the state and of the settings, the name of the dataset ("" for none) and
the SHA-256 of its fingerprint. Records that were written earlier lack some of these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log, pi
from pathlib import Path
from typing import Any

import numpy as np

from coworld_jax.data.metadata import read_json, read_metadata, write_json
from coworld_jax.evaluation.comparison import read_curve
from coworld_jax.evaluation.selection import by_candidate, candidate_means
from coworld_jax.method import TARGET, source_names
from coworld_jax.records.files import CONFIG, DATA, SUMMARY
from coworld_jax.records.metrics import FILE_NAME, read_metrics
from coworld_jax.workdir import check_config, read_config
from experiments.studying.commands import as_line, collect_command, data_directory
from experiments.studying.study import Arm, Run, Study, digest_of

WATCHED = {
    "target/model/alignment": "KL of the embeddings' softmaxes, nats",
    "target/model/reward": "half the squared error of the reward, on training batches",
    "target/model/image": "half the squared error of an image, on training batches",
    "target/critic/above_source": "share of states with v_T > v_S",
    "target/critic/value": "v_T",
    "target/critic/source_value": "v_S",
    "target/evaluation/value_bias": "v_T less the realised return",
    "target/evaluation/bias_source": "v_S less the realised return",
}
"""Metrics that show what the couplings of CoWorld do, and what a page calls them."""

_LIKELIHOODS = {"target/model/reward": 1, "target/model/image": 64 * 64 * 3}
"""Those that are negative log-likelihoods of normals of variance 1, and the size of these.

Above the least possible value, ``size · ln(2π) / 2``, they are half the squared error.
"""

BY_SOURCE = {
    "distance": "distance, nats",
    "entropy": "entropy of its softmax, nats",
    "flattest": "share in which its softmax was the flattest",
    "bias": "v_S less the realised return",
}
"""Of each of several sources, the figures of `source_figures`, and what a page calls them."""

Record = dict[str, Any]

_NOTHING_KNOWN: Record = {
    "by_source": {},
    "last_metrics": {},
    "cumulative_bias": None,
    "episode_seconds": None,
}
"""What earlier records lack."""

Datasets = Mapping[str, Mapping[str, Any]]  # by name, and by `data_digest`


def is_finished(root: Path, run: Run) -> bool:
    """Whether a run has made all that the study wants.

    Raises:
        ValueError: its workdir belongs to a run with other settings.
    """
    workdir = root / run.place
    if not (workdir / CONFIG).exists():
        return False
    check_config(workdir, run.config, way_out="choose another --root")
    if not (workdir / SUMMARY).exists():
        return False
    recorded = read_config(workdir)
    same_end = recorded.run.last_phase == run.config.run.last_phase
    return same_end and recorded.settings == run.config.settings


def wall_time(root: Path, run: Run) -> float:
    """Seconds that a finished run took."""
    return _own_seconds(read_json(root / run.place / SUMMARY))


def _own_seconds(summary: Mapping[str, Any]) -> float:
    """The wall time of a run: its share of it, where seeds were trained in one program."""
    together = summary["seeds_together"] if "seeds_together" in summary else 1
    return float(summary["wall_time"]) / float(together)


def reported_times(runs: Sequence[Run], results: Path) -> dict[Path, float]:
    """Wall time of each run that an earlier report has with the same settings. Keys are places.

    Args:
        results: the JSON file of the report.

    Raises:
        ValueError: there is no such file.
    """
    if not results.exists():
        raise ValueError(f"There is no report {results}: name a directory that holds one.")
    records = {record_key(record): record for record in read_results(results)[0]}
    return {run.place: records[run.key]["wall_time"] for run in runs if run.key in records}


def read_record(root: Path, run: Run) -> Record:
    """The record of a finished run."""
    workdir = root / run.place
    summary = read_json(workdir / SUMMARY)
    curves = {domain: read_curve([workdir], domain) for domain in summary["evaluations"]}
    domain = TARGET if TARGET in curves else next(iter(curves))
    last, curve = summary["evaluations"][domain], curves[domain]
    chosen = summary["selection"]
    return {
        "arm": run.arm,
        "pair": run.pair,
        "seed": run.seed,
        "return_mean": last["return_mean"],
        "value_bias": last["value_bias"] if "value_bias" in last else None,
        "updates": summary["updates"],
        "wall_time": _own_seconds(summary),
        "episode_seconds": _episode_seconds(summary, domain),
        "selection": _by_task(run, chosen[domain]) if domain in chosen else {},
        "by_source": source_figures(run, workdir, last) if domain in chosen else {},
        "cumulative_bias": last["cumulative_bias"] if "cumulative_bias" in last else None,
        "last_metrics": last_metrics(workdir),
        "curve": [[int(at), float(value)] for at, value in zip(curve.updates, curve.mean)],
        "digest": summary["state_digest"],
        "settings_digest": run.digest,
        "dataset": "" if run.data is None else run.data.name,
        "data_digest": _data_digest(workdir),
    }


def _tasks(run: Run) -> dict[str, str]:
    """The task of each source, by the source's name."""
    return dict(zip(source_names(len(run.config.source)), run.config.source))


def _by_task(run: Run, shares: Mapping[str, float]) -> dict[str, float]:
    """The share of each source, by its task."""
    tasks = _tasks(run)
    return {tasks[name]: share for name, share in shares.items()}


def source_figures(run: Run, workdir: Path, last: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Of each source that a choice was made among, the figures that `BY_SOURCE` names, by its task.

    Distance and entropy are means over the updates; ``target`` has the target's own entropy. The
    share in which a source was the flattest is that of the updates, by the means that were logged.

    Args:
        last: the last evaluation, whose value biases these are.
    """
    tasks = _tasks(run) | {TARGET: TARGET}
    lines = read_metrics(workdir / FILE_NAME)
    found: dict[str, Mapping[str, float]] = {}
    for figure in ("distance", "entropy"):
        means = candidate_means(lines, f"/model/{figure}_")
        found[figure] = means[TARGET] if TARGET in means else {}
    found["flattest"] = _shares_of_the_flattest(lines)
    found["bias"] = {name: last[f"bias_{name}"] for name in tasks if f"bias_{name}" in last}
    return {
        figure: {tasks[name]: value for name, value in by_name.items()}
        for figure, by_name in found.items()
    }


def _shares_of_the_flattest(lines: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The share of the updates in which each source's softmax had the highest entropy."""
    entropies = by_candidate(lines, "/model/entropy_")
    if TARGET not in entropies:
        return {}
    sources = {name: logged for name, logged in entropies[TARGET].items() if name != TARGET}
    _, made, _ = next(iter(sources.values()))
    flattest = np.argmax([values for _, _, values in sources.values()], axis=0)
    return {
        name: float(np.average(flattest == index, weights=made))
        for index, name in enumerate(sources)
    }


def last_metrics(workdir: Path) -> dict[str, float]:
    """The last value of each of `WATCHED` that the run has logged; errors for likelihoods."""
    found: dict[str, float] = {}
    for line in read_metrics(workdir / FILE_NAME):
        found |= {name: line[name] for name in WATCHED if name in line}
    for name, size in _LIKELIHOODS.items():
        if name in found:
            found[name] -= 0.5 * size * log(2.0 * pi)
    return found


def _episode_seconds(summary: Mapping[str, Any], domain: str) -> float | None:
    """Seconds of an episode in the last evaluation; None where that was not measured.

    Programs play episodes beside the updates, and a run that was killed after its last checkpoint
    forgets the time.
    """
    known = summary["episode_seconds"] if "episode_seconds" in summary else {}
    return float(known[domain]) if domain in known else None


def _data_digest(workdir: Path) -> str:
    """SHA-256 of names, rows and rewards of the files that a run learnt from; "" without data."""
    path = workdir / DATA
    return digest_of(read_json(path)["files"]) if path.exists() else ""


def read_datasets(root: Path, finished: Sequence[Run]) -> Datasets:
    """Of each dataset that finished runs learned from: its task, episodes, returns and command."""
    found: dict[str, dict[str, Any]] = {}
    for run in finished:
        if run.data is None or run.data.name in found:
            continue
        record = read_metadata(data_directory(root, run.data))
        if record is not None:
            kept = ("task", "episodes", "returns")
            command = as_line(collect_command(Path("ROOT"), run.data))
            described = {key: record[key] for key in kept if key in record}
            digest = _data_digest(root / run.place)
            found[run.data.name] = {digest: described | {"command": command}}
    return dict(sorted(found.items()))


def merged_datasets(old: Datasets, new: Datasets, records: Sequence[Record]) -> Datasets:
    """Datasets of two places: all that a record has learned from."""
    used = {record["data_digest"] for record in records}
    found: dict[str, dict[str, Any]] = {}
    for name, versions in [*old.items(), *new.items()]:
        for digest, described in versions.items():
            if digest in used:
                found.setdefault(name, {})[digest] = described
    return dict(sorted(found.items()))


def write_results(
    path: Path, name: str, records: Sequence[Record], others: Sequence[Record], data: Datasets
) -> None:
    """Keep records as ``{"study", "data", "runs", "other_settings"}``.

    Args:
        others: records of other settings than the study's, which a later report may be of again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {"study": name, "data": data, "runs": list(records), "other_settings": list(others)}
    write_json(path, kept)


def read_results(path: Path) -> tuple[list[Record], Datasets]:
    """All records, and the datasets, that `write_results` kept; none where there is no file.

    What earlier records lack is filled in.
    """
    if not path.exists():
        return [], {}
    kept = {"other_settings": []} | read_json(path)
    records = [*kept["runs"], *kept["other_settings"]]
    return [_filled(record) for record in records], kept["data"]


def _filled(record: Record) -> Record:
    """A record with all keys that `_NOTHING_KNOWN` has; those that it lacked stand last."""
    return record | {key: value for key, value in _NOTHING_KNOWN.items() if key not in record}


def merged(
    old: Sequence[Record], new: Sequence[Record], runs: Sequence[Run]
) -> tuple[list[Record], list[Record]]:
    """Records of two places: those of ``runs``, by pair and arm, and those of other settings.

    A new record replaces the old one of its run. Arms with equal settings get the same record, each
    with its own name.
    """
    found = {record_key(record): record for record in (*old, *new)}
    pairs, arms = (list(dict.fromkeys(names)) for names in zip(*((r.pair, r.arm) for r in runs)))
    ordered = sorted(runs, key=lambda run: (pairs.index(run.pair), arms.index(run.arm)))
    wanted = {run.key for run in runs}
    others = [record for key, record in found.items() if key not in wanted]
    return [found[run.key] | {"arm": run.arm} for run in ordered if run.key in found], others


def record_key(record: Record) -> tuple[str, str, str]:
    """The `Run.key` of the run that a record describes."""
    return record["pair"], record["dataset"], record["settings_digest"]


def values(records: Sequence[Record], arm: str, pair: str, measure: str) -> dict[int, float]:
    """A measure by seed, of the runs that have it: a method without a critic has no value bias.

    Args:
        measure: ``minutes``, ``absolute_bias``, or a key of the records.
    """
    of = {
        "minutes": lambda record: record["wall_time"] / 60.0,
        "absolute_bias": lambda r: None if r["value_bias"] is None else abs(r["value_bias"]),
    }
    read = of[measure] if measure in of else lambda record: record[measure]
    found = {r["seed"]: read(r) for r in records if r["arm"] == arm and r["pair"] == pair}
    return {seed: float(value) for seed, value in found.items() if value is not None}


def scores(study: Study, records: Sequence[Record], arm: Arm) -> list[dict[int, float]]:
    """By pair, the score of each seed: 0 is the low reference of the pair, 1 the high one."""
    found = []
    for pair in study.pairs:
        assert pair.reference is not None
        low, high = pair.reference
        returns = values(records, arm.name, pair.name, "return_mean")
        found.append({seed: (value - low) / (high - low) for seed, value in returns.items()})
    return found
