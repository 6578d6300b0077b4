"""The page of a study: what its tables say, and what becomes of an earlier report."""

from __future__ import annotations

import re

import numpy as np
import pytest
from tiny_study import TINY

from experiments.studying import tables
from experiments.studying.clock import Clock, make_clock, updates_in
from experiments.studying.lengths import known_plan
from experiments.studying.published import published_average
from experiments.studying.report import _compared, _head, write_report
from experiments.studying.results import read_results, write_results
from experiments.studying.sources import choices
from experiments.studying.statistics import improvement_probability
from experiments.studying.study import Arm, find_study, runs_of


def _record(run, value, **other):
    return {
        "arm": run.arm, "pair": run.pair, "seed": run.seed, "return_mean": value,
        "value_bias": value, "updates": 8, "wall_time": 60.0, "selection": {}, "last_metrics": {},
        "curve": [[4, value], [8, value]], "digest": "", "settings_digest": run.digest,
        "dataset": run.key[1], "data_digest": "", **other,
    }  # fmt: skip


def _records(study, value):
    """One of each run; ``value`` is called with the run."""
    return [_record(run, value(run)) for run in runs_of(study)]


def _rows(text):
    """Cells of a table by the first of each line."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines()]
    return {first: cells for first, *cells in lines}


def test_without_references_the_average_over_pairs_stands_beside_the_papers():
    study = find_study("table_3")
    records = _records(study, lambda run: 100.0 * (run.arm == "CoWorld") + run.seed)
    rows = _rows(tables.over_pairs(study, records))
    assert rows["arm of the study"] == ["average over pairs", "probability of improvement"]
    # The paper prints 355 as the average of DrQ+BC.
    average, improvement = rows["DrQ+BC"]
    assert average.startswith("1.00 [") and average.endswith("; paper 317.5")
    assert improvement.startswith("0.00 [0.00, 0.")
    assert len(rows["CoWorld"]) == 1  # the baseline is not compared with itself
    assert "from its rows" in "".join(_compared(study, records))
    assert published_average("table_3", Arm("CoWorld", ""), ["walker_downhill", "none"]) is None


def test_an_arm_that_lacks_a_pair_has_no_average():
    study = find_study("table_3")
    last = study.pairs[-1].name
    records = [r for r in _records(study, lambda run: float(run.seed))
               if (r["arm"], r["pair"]) != ("CQL", last)]  # fmt: skip
    assert "CQL" not in _rows(tables.over_pairs(study, records))
    assert _rows(tables.by_pair(study, records))["CQL"][-1].startswith("–; paper")


def test_a_page_says_what_the_papers_values_are():
    small = find_study("walker_downhill")
    text = "\n".join(_head("walker_downhill", small, [], []))
    assert "`small`, which are smaller" in text and "The paper's ± is a standard deviation" in text
    assert "--size" not in text
    full = "\n".join(_head("walker_downhill", small._replace(size="paper"), [], []))
    assert "smaller" not in full and "run walker_downhill --size=paper --root=DIR`" in full
    none_printed = "\n".join(_head("table_11", find_study("table_11"), [], []))
    assert "±" not in none_printed


def test_opposite_effects_of_two_pairs_are_seen_on_each():
    study = find_study("planar_alpha")
    first, second = (pair.name for pair in study.pairs)
    sign = {first: 1.0, second: -1.0}
    records = _records(
        study, lambda run: run.seed + 50.0 * sign[run.pair] * (run.arm == "alpha 0.03")
    )
    of = _rows(tables.improvements(study, records))["alpha 0.03"]
    assert of[0].startswith("1.00 [0.9") and of[1].startswith("0.00 [0.00, 0.1")
    assert _rows(tables.over_pairs(study, records))["alpha 0.03"][3].startswith("0.50 [")


@pytest.mark.parametrize("bias", [-5.0, 5.0])
def test_a_value_bias_nearer_to_0_is_an_improvement(bias):
    study = find_study("figure_5b")
    records = _records(study, lambda run: (bias if run.arm == "CQL" else 9.0) + run.seed / 10)
    cells = _rows(tables.improvements(study, records))["CQL"]
    assert all(cell.startswith("1.00 [") for cell in cells)
    assert all(cell.startswith("-4") for cell in _rows(tables.differences(study, records))["CQL"])


def test_a_difference_says_how_many_seeds_enter():
    study = find_study("planar_alpha")
    rate = {"CoWorld": 7.0, "alpha 0.03": 8.0, "dreamer": 9.0}
    records = _records(study, lambda run: np.sin(rate[run.arm] * run.seed))
    few = [r for r in records if r["arm"] != "dreamer" or r["seed"] < 13]
    one = [r for r in records if r["arm"] != "dreamer" or r["seed"] < 9]
    column = [pair.name for pair in study.pairs].index("reach_desk")
    assert _rows(tables.differences(study, few))["dreamer"][column].endswith("], n=5")
    assert _rows(tables.differences(study, one))["dreamer"][column] == tables.NONE


def test_last_metrics_chosen_sources_and_times_have_intervals():
    text = tables.last_metrics({("p", "a"): [{"target/critic/value": x} for x in (1.0, 2.0, 3.0)]})
    assert "2 [-0.484, 4.48]" in text  # 2 ± 4.3027 / √3
    shares = [{"x": x, "y": 1.0 - x} for x in (0.9, 1.0, 0.8)]
    of = {"pair": "p", "arm": "a", "by_source": {}}
    _, rows = choices([of | {"selection": one} for one in shares])
    assert [row[2:5] for row in rows] == [
        ["x", "3", "0.90 [0.65, 1.00]"],
        ["y", "3", "0.10 [0.00, 0.35]"],
    ]
    study = find_study("planar")._replace(seeds=6)
    study = study._replace(pairs=study.pairs[:1])
    high = study.pairs[0].reference.high
    records = [_record(run, 0.0, curve=[[2 + run.seed, high], [8, 0.0]]) for run in runs_of(study)]
    row = tables.times(study, records, Clock("updates", {})).splitlines()[-1]
    # Half of seeds 0 to 5 need 4 of 8 updates, and half need 5: minutes are eighths.
    assert row.endswith("| 6 of 6 | 4 [2, 7] | 0.6 [0.2, 0.9] |")
    records[5]["curve"] = [[8, 0.0]]
    row = tables.times(study, records, Clock("updates", {})).splitlines()[-1]
    assert row.endswith("| 5 of 6 | 4 [2, never] | 0.6 [0.2, never] |")


def test_coworlds_updates_of_its_source_do_not_lengthen_its_curve():
    study = find_study("planar_transfer")
    runs = {run.arm: run for run in runs_of(study) if run.seed == 0 and run.pair == "arm"}
    clock = make_clock([_record(run, 0.0) for run in runs.values()], list(runs.values()))
    assert clock.label == "updates of the evaluated domain"
    ends = {"CoWorld": 4220, "finetune": 4221, "dreamer": 2000, "offline_dv2": 3500, "bc": 4000}
    counted = {arm: clock(_record(runs[arm], 0.0), end) for arm, end in ends.items()}
    own = {"CoWorld": 2000, "finetune": 2000, "dreamer": 2000}
    assert counted == ends | own
    # 1,500 of the source, 500 of the target, 240 of the source that read the target, 500.
    coworld = known_plan(runs["CoWorld"])[0]
    assert [updates_in(coworld, "target", at) for at in (1500, 2000, 2240, 2740)] == [
        0, 500, 500, 1000
    ]  # fmt: skip


def test_a_plan_that_only_a_simulator_knows_leaves_all_updates_counted():
    runs = [run for run in runs_of(find_study("table_10")) if run.seed == 0]
    clock = make_clock([_record(run, 0.0) for run in runs], runs)
    assert clock.label == "updates of all domains"
    assert clock(_record(runs[0], 0.0), 123) == 123


def test_records_of_other_settings_are_kept_and_counted(tmp_path):
    runs = list(runs_of(TINY))
    records = [_record(run, 5.0, data_digest="d") for run in runs]
    data = {"b": {"d": {"episodes": 2, "returns": {"mean": 1.0, "min": 0.0, "max": 2.0}}}}
    write_results(tmp_path / "tiny.json", "tiny", records, [], data)
    page, *_, results = write_report("tiny", TINY, tmp_path / "nothing", tmp_path)
    before, kept = page.read_text(), results.read_text()
    assert "other_settings" not in before and "3 of 3 runs" in before

    # The same study with other settings of one arm: its record is of no run any more.
    first, online = TINY.arms
    changed = TINY._replace(
        arms=(first, online._replace(settings=(*online.settings, "learning.batch=3")))
    )
    write_report("tiny", changed, tmp_path / "nothing", tmp_path)
    text = page.read_text()
    assert "under `other_settings`: 1." in text and "2 of 3 runs" in text
    assert re.search(r"\| online \| – \|", text)
    assert read_results(results)[1] == data
    # And when the settings are as before, nothing was lost.
    write_report("tiny", TINY, tmp_path / "nothing", tmp_path)
    assert page.read_text() == before and results.read_text() == kept


def test_pairing_narrows_the_probability_of_improvement():
    luck = np.random.default_rng(0).normal(size=20)
    noise = np.random.default_rng(1).normal(size=(2, 20)) / 5
    arms = [luck + noise[0] + 0.3], [luck + noise[1]]
    paired, apart = (improvement_probability(*arms, paired=paired) for paired in (True, False))
    assert paired.high - paired.low < 0.6 * (apart.high - apart.low)


def test_an_arm_is_exactly_once_itself():
    study = find_study("figure_3")
    records = _records(study, lambda run: 100.0 + 7.0 * run.seed)
    row = _rows(tables.by_pair(study, records))["Offline DV2"]
    assert row[0].startswith("1.00, n=3")
