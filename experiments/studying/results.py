"""What the finished runs of a study measured, as records: read from workdirs, kept as JSON.

A record is ``{"arm", "pair", "seed", "return_mean", "value_bias", "updates", "wall_time",
"selection", "curve", "digest", "data_digest"}``: the last evaluation, its number of updates,
seconds, the share of the updates in which each source was chosen, all evaluations as
``[updates, return]``, and the SHA-256 of the state and of the data's fingerprint.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from coworld_jax.data.metadata import read_json, read_metadata, write_json
from coworld_jax.evaluation.comparison import read_curve
from coworld_jax.method import TARGET
from coworld_jax.records.files import DATA, SUMMARY
from coworld_jax.workdir import check_config
from experiments.studying.commands import as_line, collect_command, data_directory
from experiments.studying.study import Arm, Run, Study

Record = dict[str, Any]


def is_finished(root: Path, run: Run) -> bool:
    """Whether a run has ended.

    Raises:
        ValueError: its workdir belongs to a run with other settings.
    """
    workdir = root / run.place
    check_config(workdir, run.config)
    return (workdir / SUMMARY).exists()


def read_record(root: Path, run: Run) -> Record:
    """The record of a finished run."""
    workdir = root / run.place
    summary = json.loads((workdir / SUMMARY).read_text(encoding="utf-8"))
    domain = TARGET if TARGET in summary["evaluations"] else next(iter(summary["evaluations"]))
    last, curve = summary["evaluations"][domain], read_curve([workdir], domain)
    chosen = summary["selection"]
    return {
        "arm": run.arm,
        "pair": run.pair,
        "seed": run.seed,
        "return_mean": last["return_mean"],
        "value_bias": last["value_bias"] if "value_bias" in last else None,
        "updates": summary["updates"],
        "wall_time": summary["wall_time"],
        "selection": chosen[domain] if domain in chosen else {},
        "curve": [[int(at), float(value)] for at, value in zip(curve.updates, curve.mean)],
        "digest": summary["state_digest"],
        "data_digest": _data_digest(workdir),
    }


def _data_digest(workdir: Path) -> str:
    """SHA-256 of the names, rows and rewards of the files that a run learnt from."""
    path = workdir / DATA
    files = read_json(path)["files"] if path.exists() else {}
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def read_datasets(root: Path, runs: Sequence[Run]) -> dict[str, Any]:
    """Of each dataset that is there: its task, episodes, returns and command."""
    found = {}
    for data in {run.data for run in runs if run.data is not None}:
        record = read_metadata(data_directory(root, data))
        if record is not None:
            kept = ("task", "episodes", "returns")
            command = as_line(collect_command(Path("ROOT"), data))
            described = {key: record[key] for key in kept if key in record}
            found[data.name] = described | {"command": command}
    return dict(sorted(found.items()))


def write_results(
    path: Path, name: str, records: Sequence[Record], data: Mapping[str, Any]
) -> None:
    """Keep records as ``{"study", "data", "runs"}``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"study": name, "data": data, "runs": list(records)})


def read_results(path: Path) -> list[Record]:
    """Records that `write_results` kept; none where there is no file."""
    if not path.exists():
        return []
    records: list[Record] = json.loads(path.read_text(encoding="utf-8"))["runs"]
    return records


def merged(old: Sequence[Record], new: Sequence[Record], study: Study) -> list[Record]:
    """Records of two places in the study's order; a new one replaces the old one of its run."""
    found = {(r["pair"], r["arm"], r["seed"]): r for r in (*old, *new)}
    arms = [arm.name for arm in study.arms]
    pairs = [pair.name for pair in study.pairs]
    known = {k: r for k, r in found.items() if k[0] in pairs and k[1] in arms}
    order = sorted(known, key=lambda k: (pairs.index(k[0]), arms.index(k[1]), k[2]))
    return [known[key] for key in order]


def values(records: Sequence[Record], arm: str, pair: str, measure: str) -> dict[int, float]:
    """A measure by seed, of the runs that have it: a method without a critic has no value bias."""
    return {
        r["seed"]: float(r[measure])
        for r in records
        if r["arm"] == arm and r["pair"] == pair and r[measure] is not None
    }


def scores(study: Study, records: Sequence[Record], arm: Arm) -> list[dict[int, float]]:
    """By pair, the score of each seed: 0 is the low reference of the pair, 1 the high one."""
    found = []
    for pair in study.pairs:
        assert pair.reference is not None
        low, high = pair.reference
        returns = values(records, arm.name, pair.name, "return_mean")
        found.append({seed: (value - low) / (high - low) for seed, value in returns.items()})
    return found
