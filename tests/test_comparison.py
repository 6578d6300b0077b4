"""Runs beside each other: what is read, what the table and the curves say."""

from __future__ import annotations

import numpy as np
import pytest
import tiny

from coworld_jax.evaluation.comparison import comparison_figure, comparison_table, read_curve
from coworld_jax.records.files import write_config
from coworld_jax.records.metrics import MetricsWriter
from experiments.compare import dataset_levels, experiments_of

NAME = "target/evaluation/return_mean"


def make_run(workdir, returns):
    """A workdir whose target was evaluated: ``returns`` by update."""
    with MetricsWriter(workdir) as metrics:
        for updates, value in returns.items():
            metrics.write(updates, 0, {"target/model/loss": 1.0})
            metrics.write(updates, 0, {NAME: value, "source/evaluation/return_mean": -1.0})
    write_config(workdir, tiny.CONFIG)
    return workdir


def test_seeds_are_the_unit_of_replication(tmp_path):
    one = make_run(tmp_path / "1", {10: 2.0, 20: 100.0, 30: 7.0})
    two = make_run(tmp_path / "2", {10: 4.0, 20: 300.0})  # not yet at 30
    other = make_run(tmp_path / "3", {20: 50.0, 40: 60.0})
    seeds, single = read_curve([one, two], "target"), read_curve([other], "target")
    np.testing.assert_array_equal(seeds.updates, [10, 20])
    np.testing.assert_array_equal(seeds.mean, [3.0, 200.0])
    np.testing.assert_array_equal(seeds.std, [1.0, 100.0])
    assert comparison_table({"both": seeds, "one": single}).splitlines() == [
        "| updates | both | one |",
        "|---|---|---|",
        "| 10 | 3 ± 1 |  |",
        "| 20 | 200 ± 100 | 50 |",
        "| 40 |  | 60 |",
    ]
    axes = comparison_figure(
        tmp_path / "c.png", {"both": seeds, "one": single}, levels={"dataset, mean": 42.0}
    )
    labels = {line.get_label(): line.get_ydata() for line in axes.get_lines()}
    assert list(labels) == ["both", "one", "dataset, mean"]
    np.testing.assert_array_equal(labels["both"], [3.0, 200.0])
    assert set(labels["dataset, mean"]) == {42.0}
    assert (tmp_path / "c.png").stat().st_size > 5_000


@pytest.mark.parametrize("returns, level", [([-48.0, -20.0], 5.0), ([-11.0, 90.0], 1.0),
                                            ([3.0, 90.0], -7.0)])  # fmt: skip
def test_negative_returns_are_shown_whole(tmp_path, returns, level):
    curve = read_curve([make_run(tmp_path / "1", dict(enumerate(returns, 1)))], "target")
    low, high = comparison_figure(
        tmp_path / "c.png", {"one": curve}, levels={"x": level}
    ).get_ylim()
    assert low <= min(*returns, level) and max(*returns, level) <= high


def test_positive_returns_are_shown_from_zero(tmp_path):
    curve = read_curve([make_run(tmp_path / "1", {1: 70.0, 2: 90.0})], "target")
    assert comparison_figure(tmp_path / "c.png", {"one": curve}).get_ylim()[0] == 0.0


def test_what_cannot_be_compared_is_said(tmp_path):
    one, two = make_run(tmp_path / "1", {10: 2.0}), make_run(tmp_path / "2", {20: 2.0})
    with pytest.raises(ValueError, match="never evaluated at the same update"):
        read_curve([one, two], "target")
    with pytest.raises(ValueError, match="has evaluated source, target so far, and not source1"):
        read_curve([one], "source1")
    with pytest.raises(ValueError, match="nowhere has no metrics.jsonl"):
        read_curve([tmp_path / "nowhere"], "target")
    with pytest.raises(ValueError, match="runs/a names no run: write NAME="):
        experiments_of(["runs/a"])
    with pytest.raises(ValueError, match="A is named twice: list its runs as A=A,B"):
        experiments_of(["A=x", "A=y"])
    with pytest.raises(ValueError, match="No run to draw"):
        experiments_of([])
    assert [*map(str, experiments_of(["A=x,y", "B=z"])["A"])] == ["x", "y"]
    assert dataset_levels([one, two]) == {}  # their configuration names no dataset
