"""Runs that start from the end of another one, and plans that end after one of their phases."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import tiny
from record_digests import save_data

from coworld_jax.config import flatten
from coworld_jax.records.checkpoint import Checkpointer
from coworld_jax.records.files import CHECKPOINTS
from coworld_jax.training.beginning import start_from
from coworld_jax.training.loop import train
from coworld_jax.training.plan import up_to
from coworld_jax.training.start import check_place
from coworld_jax.workdir import check_config

TOYS = {"source": ("toy_tasks:calm",), "target": "toy_tasks:windy"}


def config_of(data: str, last_phase: str = "", **coupling: object):
    """A tiny CoWorld on toy tasks."""
    settings = dataclasses.replace(
        tiny.SETTINGS, coupling=dataclasses.replace(tiny.SETTINGS.coupling, **coupling)
    )
    run = dataclasses.replace(tiny.CONFIG.run, last_phase=last_phase, devices=1)
    return dataclasses.replace(tiny.CONFIG, settings=settings, run=run, data=data, **TOYS)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A small dataset of the target."""
    directory = tmp_path_factory.mktemp("windy") / "data"
    save_data(directory)
    return str(directory)


@pytest.fixture(scope="module")
def beginning(data, tmp_path_factory):
    """Workdir of the pretraining alone, with other couplings than the runs that start there."""
    place = tmp_path_factory.mktemp("beginning")
    assert train(config_of(data, "pretrain", alignment_scale=9.0), place) is not None
    return place


@pytest.mark.slow  # three compiled runs
def test_a_run_from_a_common_beginning_ends_as_one_from_scratch(data, beginning, tmp_path):
    config = config_of(data, value_constraint=False)
    whole = train(config, tmp_path / "whole")
    start_from(config, tmp_path / "rest", beginning)
    assert not (tmp_path / "rest" / "summary.json").exists()
    rest = train(config, tmp_path / "rest")
    assert rest["state_digest"] == whole["state_digest"]
    assert rest["evaluations"]["target"] == whole["evaluations"]["target"]
    assert rest["updates"] == whole["updates"]
    scores = [
        json.loads((tmp_path / name / "checkpoints" / "scores.json").read_text())
        for name in ("whole", "rest")
    ]
    assert scores[0] == scores[1]
    # A second start goes on, and copies nothing.
    start_from(config, tmp_path / "rest", beginning)
    assert (tmp_path / "rest" / "summary.json").exists()


@pytest.mark.slow
def test_a_run_that_would_have_begun_otherwise_is_refused(data, beginning, tmp_path):
    for other, said in (
        (dataclasses.replace(config_of(data), seed=3), "seed"),
        (config_of(data, selection="phase"), "coupling.selection"),
    ):
        with pytest.raises(ValueError, match=f"is no beginning of this one.*{said}"):
            start_from(other, tmp_path / "run", beginning)
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.slow
def test_a_run_that_went_on_is_no_beginning(data, beginning, tmp_path):
    (tmp_path / "config.json").write_text((beginning / "config.json").read_text())
    with pytest.raises(
        ValueError, match="is no finished run with --config.run.last_phase=pretrain"
    ):
        start_from(config_of(data), tmp_path / "run", tmp_path)


@pytest.mark.slow
def test_a_method_without_a_beginning_says_so(beginning, tmp_path):
    config = dataclasses.replace(tiny.of_method("bc"), **TOYS)
    with pytest.raises(ValueError, match="is a run of coworld, no beginning of bc"):
        start_from(config, tmp_path / "run", beginning)
    flat = flatten(config) | {"source": list(config.source)}
    (tmp_path / "config.json").write_text(json.dumps(flat))
    with pytest.raises(ValueError, match="Runs of bc have no common beginning"):
        start_from(config, tmp_path / "run", tmp_path)


def test_a_run_beyond_its_last_phase_is_refused(tmp_path):
    with Checkpointer(tmp_path / CHECKPOINTS) as checkpoints:
        checkpoints.save(3, {"x": np.zeros(2)}, {"position": {"phase": 2, "done": 1}})
    plan = tiny.build().plan
    check_place(tmp_path, config_of(""), plan)
    with pytest.raises(ValueError, match="gone beyond its phase pretrain: give a later run.last_"):
        check_place(tmp_path, config_of("", "pretrain"), up_to(plan, "pretrain"))


def test_checkpoints_without_a_configuration_begin_no_run(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(ValueError, match="checkpoints but no config.json: give --beginning again"):
        check_config(tmp_path, tiny.CONFIG)


def test_an_unknown_last_phase_names_those_that_there_are():
    plan = tiny.build().plan
    assert up_to(plan, "") == plan
    assert [phase.name for phase in up_to(plan, "pretrain")] == ["prefill", "pretrain"]
    with pytest.raises(ValueError, match="'pretraining', but the plan has the phases prefill, pre"):
        up_to(plan, "pretraining")
