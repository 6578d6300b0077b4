"""What a page says of several sources, on records with numbers worked out by hand."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np

from experiments.studying.report import write_report
from experiments.studying.results import source_figures, write_results
from experiments.studying.sources import best_sources, choices, draw_map, multiples
from experiments.studying.study import find_study, runs_of
from experiments.studying.sweeps import draw_sweeps, sweeps

MAP = find_study("figure_3")
DOOR, BUTTON, WINDOW = (pair.name for pair in MAP.pairs[:3])
OFFLINE = "Offline DV2"


def record(arm, pair, value, seed=0, **more):
    of = {"arm": arm, "pair": pair, "seed": seed, "return_mean": value, "data_digest": ""}
    return of | {"selection": {}, "by_source": {}} | more


RECORDS = [
    *(record(OFFLINE, DOOR, value, seed) for seed, value in enumerate((100.0, 300.0))),
    *(record(BUTTON, DOOR, value, seed) for seed, value in enumerate((500.0, 700.0))),
    record(WINDOW, DOOR, 50.0),
    record("multi-source", DOOR, 800.0),  # not a single source
    record(OFFLINE, BUTTON, -1.0),  # a multiple of it means nothing
    record(DOOR, BUTTON, 10.0),
]


def test_the_map_has_multiples_of_the_mean_and_the_best_single_source(tmp_path):
    arms = [arm for arm in MAP.arms if arm.name in (BUTTON, WINDOW)]
    found = multiples(MAP, RECORDS, arms)
    # 600 / 200 and 50 / 200; nothing elsewhere. The errors of 600 and 200 are 100 each.
    np.testing.assert_allclose(found[0], [3.0, 0.25])
    assert np.isnan(found[1:]).all()
    head, rows = best_sources(MAP, RECORDS)
    assert len(head) == 5 and rows[0] == [DOOR, BUTTON, "3.00 [-10.27, 16.27], n=2", BUTTON, "1.85"]
    assert rows[1] == [BUTTON, "–", "–", "drawer-close", "1.15"]
    here, paper = draw_map(tmp_path / "map.png", MAP, RECORDS)
    assert [text.get_text() for text in here.texts] == ["3.00", "0.25", "4.00"]
    assert len(paper.texts) == 36  # 30 pairs of tasks, and six choices among several
    assert (tmp_path / "map.png").stat().st_size > 1000


def test_a_choice_is_shown_with_what_it_rests_on():
    of = {"distance": {"a": 0.1, "b": 0.3}, "entropy": {"a": 4.0, "b": 2.0, "target": 3.0}}
    of |= {"flattest": {"a": 0.9, "b": 0.1}, "bias": {"a": -5.0}}
    more = {"selection": {"a": 0.75, "b": 0.25}, "by_source": of}
    old = {"selection": {"a": 0.25, "b": 0.75}}  # of an earlier report
    head, rows = choices(
        [record("x", "p", 1.0, **more), record("x", "p", 1.0, 1, **old), record("y", "p", 1.0)]
    )
    # 0.5 ± 12.706 * 0.25: the interval ends at 0 and 1. One run has no interval.
    assert [row[2:-1] for row in rows] == [
        ["a", "2", "0.50 [0.00, 1.00]", "0.1, n=1", "4, n=1", "0.90, n=1", "-5, n=1"],
        ["b", "2", "0.50 [0.00, 1.00]", "0.3, n=1", "2, n=1", "0.10, n=1", ""],
        ["target", "2", "", "", "3, n=1", "", ""],
    ]
    assert all(len(row) == len(head) and row[:2] == ["p", "x"] for row in rows)
    chosen = {"metaworld/drawer-close": 0.2, "metaworld/handle-press": 0.8}
    _, rows = choices([record("x", "door-close", 1.0, selection=chosen)])
    assert [row[-1] for row in rows] == ["chosen", ""]  # by the paper, not here


def test_the_figures_of_each_source_stand_under_its_task(tmp_path):
    rate = {"time/updates_per_second": 1.0}
    lines = [
        {"updates": 10, **rate, "target/model/entropy_source0": 4.0,
         "target/model/entropy_source1": 2.5, "target/model/entropy_target": 5.0},
        {"updates": 40, **rate, "target/model/entropy_source0": 2.0,
         "target/model/entropy_source1": 2.5, "target/model/distance_source1": 0.5,
         "target/model/entropy_target": 1.0},
    ]  # fmt: skip
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = SimpleNamespace(config=SimpleNamespace(source=("planar/reach", "planar/arm")))
    found = source_figures(run, tmp_path, {"value_bias": 1.0, "bias_source1": -2.0})
    assert found == {
        "entropy": {"planar/reach": (10 * 4.0 + 30 * 2.0) / 40, "planar/arm": 2.5, "target": 2.0},
        "flattest": {"planar/reach": 0.25, "planar/arm": 0.75},
        "distance": {"planar/arm": 0.5},
        "bias": {"planar/arm": -2.0},
    }


def test_a_page_has_a_table_for_each_further_measure(tmp_path):
    study = find_study("figure_5b")
    runs = [run for run in runs_of(study) if run.pair == DOOR and run.arm.startswith("CoWorld")]
    kept = [
        record(run.arm, run.pair, 1.0, run.seed, dataset=run.key[1],
               settings_digest=run.digest, data_digest="",
               value_bias=2.0 + run.seed, cumulative_bias=11.5 + run.seed, curve=[], updates=1,
               wall_time=1.0)
        for run in runs
    ]  # fmt: skip
    del kept[0]["cumulative_bias"]  # an earlier record
    write_results(tmp_path / "figure_5b.json", "figure_5b", kept, [], {})
    page, *_ = write_report("figure_5b", study, tmp_path / "root", tmp_path)
    text = page.read_text()
    before, _, after = text.partition("The sum of an episode's values")
    assert "3.00 [0.52, 5.48], n=3" in before and "11.5" not in before
    # Means of 12.5 and 13.5, and of 11.5, 12.5 and 13.5.
    assert "13.0 [" in after and "12.5 [" in after and "3.00 [" not in after


def test_a_setting_that_arms_change_alone_has_an_axis_of_its_values(tmp_path):
    study = find_study("figure_6")
    found = sweeps(study, list(runs_of(study)))
    # Table 8's own value, 2, is among them.
    alpha = {
        0.5: "alpha = 0.5",
        1.0: "alpha = 1.0",
        2.0: "CoWorld",
        3.0: "alpha = 3.0",
        5.0: "alpha = 5.0",
    }
    assert found["coupling.value_constraint_scale"] == alpha and len(found) == 3
    records = [record("CoWorld", BUTTON, value, seed) for seed, value in enumerate((10.0, 30.0))]
    records += [record("alpha = 5.0", BUTTON, 7.0), record("DV2 Finetune", BUTTON, 9.0)]
    axis = draw_sweeps(tmp_path / "sweeps.png", study, records, found)[
        "coupling.value_constraint_scale"
    ]
    curve, reference = axis.lines
    assert curve.get_xydata().tolist() == [[2.0, 20.0], [5.0, 7.0]]
    assert set(reference.get_ydata()) == {9.0}
    for name in ("figure_3", "planar_alpha", "table_2"):
        assert sweeps(find_study(name), list(runs_of(find_study(name)))) == {}
