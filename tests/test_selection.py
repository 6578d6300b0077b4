"""How often each source was chosen: the shares of a run, and their picture."""

from __future__ import annotations

import numpy as np

from coworld_jax.evaluation.selection import by_candidate, candidate_means, selection_figure

RATE = {"time/updates_per_second": 1.0}


def record(updates: int, near: float) -> dict[str, float]:
    """A line of metrics of updates, in which source0 was chosen with a share of ``near``."""
    chosen = {"target/chosen/source0": near, "target/chosen/source1": 1.0 - near}
    return {"updates": updates, **RATE, **chosen}


# The source learns from update 10 to 40, and nothing is chosen there.
RECORDS = [record(10, 1.0), {"updates": 40, **RATE}, record(70, 0.2)]


def test_a_share_is_weighted_by_the_updates_that_its_record_stands_for(tmp_path):
    shares = selection_figure(tmp_path / "selection.png", RECORDS)
    wanted = (10 * 1.0 + 30 * 0.2) / 40
    np.testing.assert_allclose(shares["target"]["source0"], wanted)
    np.testing.assert_allclose(shares["target"]["source1"], 1.0 - wanted)
    assert (tmp_path / "selection.png").stat().st_size > 1000


def test_records_of_evaluations_stand_for_no_update():
    evaluation = {"updates": 30, "source/evaluation/return_mean": 5.0}
    found = by_candidate([RECORDS[0], evaluation, *RECORDS[1:]])["target"]["source0"]
    np.testing.assert_array_equal(found, [[10, 70], [10, 30], [1.0, 0.2]])


def test_what_is_measured_of_candidates_is_a_mean_over_updates():
    name = "target/model/entropy_source0"
    lines = [RECORDS[0] | {name: 2.0}, RECORDS[1], RECORDS[2] | {name: 4.0}]
    # 10 updates with 2 and 30 with 4.
    assert candidate_means(lines, "/model/entropy_") == {"target": {"source0": 3.5}}


def test_a_single_source_is_not_drawn(tmp_path):
    assert selection_figure(tmp_path / "selection.png", [{"updates": 10, **RATE}]) == {}
    assert not list(tmp_path.iterdir())
