"""Records of a study's runs: which count, how two reports join, what a page says of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tiny_study import TINY

from coworld_jax.config import flatten
from experiments.studying.report import mixed_data
from experiments.studying.results import (
    is_finished,
    last_metrics,
    merged,
    merged_datasets,
    wall_time,
)
from experiments.studying.study import find_study, runs_of
from experiments.studying.tables import differences, improvements, over_pairs, paired_by_seed


def test_new_records_replace_those_of_their_run_and_others_stand_apart():
    runs = list(runs_of(TINY))
    online = next(run for run in runs if run.arm == "online")
    cloning = next(run for run in runs if run.arm != "online")

    def record(run, value, digest=None):
        return {"pair": run.pair, "arm": run.arm, "seed": run.seed, "return_mean": value,
                "dataset": run.key[1], "settings_digest": digest or run.digest}  # fmt: skip

    old, newer = record(online, 1.0), record(online, 2.0)
    stranger = record(online, 3.0, "of other settings")
    assert merged([old, stranger], [newer, record(cloning, 4.0)], runs) == (
        [record(cloning, 4.0), newer], [stranger]
    )  # fmt: skip


def test_a_record_counts_for_all_arms_with_its_settings():
    cloning, online = TINY.arms
    runs = list(runs_of(TINY._replace(arms=(online, cloning, online._replace(name="again")))))
    run = next(run for run in runs if run.arm == "again")
    pair, dataset, digest = run.key
    kept = {"pair": pair, "arm": "an old name", "seed": 0}
    kept |= {"dataset": dataset, "settings_digest": digest}
    assert merged([kept], [], runs)[0] == [kept | {"arm": "online"}, kept | {"arm": "again"}]


def test_each_version_of_a_dataset_is_kept_while_a_run_of_it_is():
    records = [{"data_digest": digest} for digest in ("old", "new", "")]
    old, new = {"b": {"gone": 2}, "a": {"old": 1, "gone": 2}}, {"a": {"new": 3}}
    assert merged_datasets(old, new, records) == {"a": {"old": 1, "new": 3}}


def test_a_record_has_the_last_value_of_what_shows_the_couplings(tmp_path):
    one, other = "target/critic/value", "target/critic/source_value"
    lines = [{one: 1.0}, {one: 2.0, other: 3.0}, {other: 4.0, "source/critic/value": 5.0}]
    text = "".join(f"{json.dumps({'updates': i, **line})}\n" for i, line in enumerate(lines))
    (tmp_path / "metrics.jsonl").write_text(text)
    assert last_metrics(tmp_path) == {one: 2.0, other: 4.0}


def test_a_likelihood_is_shown_as_half_of_a_squared_error(tmp_path):
    least = 0.5 * np.log(2 * np.pi)  # of a normal of variance 1
    line = {"target/model/reward": least + 0.3**2 / 2, "target/model/image": 12_288 * least + 8}
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"updates": 1, **line}) + "\n")
    found = last_metrics(tmp_path)
    assert found["target/model/reward"] == pytest.approx(0.045)
    assert found["target/model/image"] == pytest.approx(8.0)


def test_seeds_are_paired_only_where_every_pair_shares_two():
    first = [{0: 1.0, 1: 2.0, 2: 3.0}, {0: 5.0, 1: 6.0}]
    left, right, paired = paired_by_seed(first, [{2: 30.0, 1: 20.0}, {1: 60.0, 0: 50.0}])
    assert paired
    assert [x.tolist() for x in left] == [[2.0, 3.0], [5.0, 6.0]]
    assert [x.tolist() for x in right] == [[20.0, 30.0], [50.0, 60.0]]
    left, _, paired = paired_by_seed(first, [{7: 1.0}, {0: 1.0, 1: 2.0}])
    assert not paired and [len(x) for x in left] == [3, 2]


def test_a_page_warns_of_a_pair_whose_runs_learned_from_different_data():
    study = find_study("planar_transfer")
    (arm, other, *_), (pair, *_) = study.arms, study.pairs
    online = {"pair": pair.name, "arm": "online", "seed": 0, "data_digest": ""}
    alike = [{**online, "arm": a.name, "data_digest": "a"} for a in (arm, other)]
    assert mixed_data(study, [online, *alike]) == []
    later = [record | {"seed": 7} for record in alike]
    (said,) = mixed_data(study, [*alike, later[0], later[1] | {"data_digest": "b"}])
    assert said.startswith(f"**On {pair.name} the arms of some seeds learned from different")
    assert f"(seeds: 7): {arm.name} from a; {other.name} from b." in said
    # Another machine made the data of another seed.
    (said,) = mixed_data(study, [*alike, *(r | {"seed": 1, "data_digest": "b"} for r in alike)])
    assert pair.name in said and "2 datasets" in said and "different" not in said


def test_arms_that_learned_from_different_data_are_not_compared():
    study = find_study("planar_transfer")
    values = {"CoWorld": 50.0, "dreamer": 30.0, "bc": 10.0}
    records = [
        {"pair": pair.name, "arm": arm, "seed": seed, "return_mean": value * (1 + seed),
         "selection": {}, "data_digest": "b" if arm == "bc" else "a"}
        for pair in study.pairs for arm, value in values.items() for seed in range(3)
    ]  # fmt: skip
    for made in (differences, improvements):
        cells = {line.split(" | ")[0]: line for line in made(study, records).splitlines()}
        assert cells["| bc"].count("–") == 3 and "–" not in cells["| CoWorld"]


def test_a_seed_is_compared_where_both_arms_learned_from_one_dataset():
    study = find_study("planar_transfer")
    records = [
        {"pair": pair.name, "arm": arm, "seed": seed, "return_mean": value * (1 + seed),
         "selection": {}, "data_digest": "b" if (arm, seed) == ("bc", 2) else "a"}
        for pair in study.pairs
        for arm, value in {"dreamer": 30.0, "bc": 10.0}.items() for seed in range(4)
    ]  # fmt: skip
    cells = {line.split(" | ")[0]: line for line in differences(study, records).splitlines()}
    assert cells["| bc"].count("-46.7") == 3  # -20 times 1, 2 and 4
    assert cells["| bc"].count("n=3") == 3


def test_the_difference_of_scores_is_that_of_the_arm_less_the_baseline():
    study = find_study("planar_transfer")
    share = {("CoWorld", 0): 0.5, ("CoWorld", 1): 0.6, ("dreamer", 0): 0.25, ("dreamer", 1): 0.25}
    records = [
        {"pair": pair.name, "arm": arm, "seed": seed, "selection": {}, "data_digest": "",
         "return_mean": pair.reference.low + of * (pair.reference.high - pair.reference.low)}
        for pair in study.pairs for (arm, seed), of in share.items()
    ]  # fmt: skip
    lines = [line.strip("| ").split(" | ") for line in over_pairs(study, records).splitlines()]
    assert lines[0][3] == "mean score less that of dreamer"
    assert lines[2][0] == "CoWorld" and lines[2][3].startswith("0.30 [")


def test_a_shorter_run_is_not_finished(tmp_path):
    run = next(run for run in runs_of(TINY) if run.arm == "online")
    workdir = tmp_path / run.place
    (workdir / "checkpoints").mkdir(parents=True)
    assert not is_finished(tmp_path, run)  # it was stopped while it copied its beginning
    (workdir / "summary.json").write_text('{"wall_time": 60.0, "seeds_together": 3}')
    assert wall_time(tmp_path, run) == 20.0  # its share
    flat = flatten(run.config) | {"source": list(run.config.source)}
    for changed, finished in (
        ({}, True),
        ({"updates": 1}, False),
        ({"run.last_phase": "learn"}, False),
    ):
        (workdir / "config.json").write_text(json.dumps(flat | changed))
        assert is_finished(tmp_path, run) is finished
