"""The real command on real simulators: finished, killed, stopped, resumed, refused."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tiny
from episodes import save_rendered
from tiny_command import SECONDS, command, finish, start, wait_until

from coworld_jax.records.metrics import read_metrics
from coworld_jax.workdir import load_policy

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three short episodes of walker_downhill, really rendered."""
    return save_rendered(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """One uninterrupted run: its workdir, summary and output."""
    workdir = tmp_path_factory.mktemp("run") / "x"
    return workdir, *finish(workdir, data)


def test_a_run_goes_through_the_plan_and_says_so(finished):
    workdir, summary, out, err = finished
    assert summary["updates"] == 14 and summary["env_steps"] == 60
    assert "co-train source" in err and "resident on the device" in err
    records = read_metrics(workdir / "metrics.jsonl")
    assert {r["updates"] for r in records} >= {2, 4, 6, 8, 10, 12, 14}
    assert any("target/critic/constraint" in r for r in records)
    assert (json.loads((workdir / "config.json").read_text()))["learning.batch"] == tiny.BATCH
    assert len(list((workdir / "replay" / "source").glob("*.npz"))) == 6
    for domain in ("source", "target"):
        result = summary["evaluations"][domain]
        assert len(result["returns"]) == 1 and np.isfinite(result["value_bias"])
        for name in ("rollout.gif", "open_loop.gif", "value_bias.png"):
            picture = workdir / "pictures" / f"{domain}_{name}"
            assert str(picture) in summary["pictures"] and str(picture) in out
            assert picture.stat().st_size > 1000
    found = summary["evaluations"]["target"]
    assert 0.0 <= found["above_source"] <= 1.0 and np.isfinite(found["bias_source"])
    assert "bias_source" not in summary["evaluations"]["source"]
    assert found["bias_source"] != found["value_bias"] != found["cumulative_bias"]
    assert (workdir / "pictures" / "returns.png").exists()


def test_each_kind_of_phase_is_compiled_once(finished):
    """Seven phases, four kinds, one length of chunk."""
    *_, err = finished
    compiled = re.findall(r"Compiling (.*), 2 updates in a call", err)
    assert compiled == ["pretrain", "warm-up", "co-train source", "target"]
    assert err.count("Compiling") == 4


def test_the_summary_says_where_the_time_went(finished):
    _, summary, _, _ = finished
    spent = summary["seconds"]
    assert set(spent) >= {"collection", "compile", "update", "logging", "evaluation", "checkpoint"}
    assert 0.5 * summary["wall_time"] < sum(spent.values()) <= summary["wall_time"]


@pytest.mark.slow
def test_the_finished_run_is_not_trained_again(finished, data):
    workdir, summary, _, _ = finished
    again, _, err = finish(workdir, data)
    assert again["state_digest"] == summary["state_digest"]
    assert "Resumed" in err


@pytest.mark.slow
@pytest.mark.parametrize("saved", [8, 2])
def test_a_killed_run_ends_as_if_it_had_not_been(finished, data, tmp_path, saved):
    """SIGKILL at some moment after a checkpoint; the same command then goes on."""
    workdir = tmp_path / "x"
    process = start(workdir, data)
    wait_until((workdir / "checkpoints" / str(saved)).exists, process)
    process.kill()
    process.communicate()
    summary, _, err = finish(workdir, data)
    assert "Resumed" in err
    assert summary["state_digest"] == finished[1]["state_digest"]
    assert summary["env_steps"] == finished[1]["env_steps"]
    updates = [r["updates"] for r in read_metrics(workdir / "metrics.jsonl")]
    wanted = [r["updates"] for r in read_metrics(finished[0] / "metrics.jsonl")]
    assert updates == wanted


@pytest.mark.slow
def test_sigterm_saves_and_the_run_continues(finished, data, tmp_path):
    workdir = tmp_path / "x"
    process = start(workdir, data, "--config.run.checkpoint_every=1000")
    wait_until(lambda: _updates(workdir) > 0, process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 143 and "Stopped at update" in err, err[-3000:]
    assert not (workdir / "summary.json").exists()
    # How it is carried out may change on the way.
    summary, _, err = finish(workdir, data, "--config.run.workers=2")
    assert "Resumed" in err
    assert summary["state_digest"] == finished[1]["state_digest"]


@pytest.mark.slow
def test_a_killed_worker_changes_nothing(finished, data, tmp_path):
    workdir = tmp_path / "x"
    process = start(workdir, data)
    wait_until((workdir / "checkpoints" / "2").exists, process)
    for pid in _children(process.pid):
        os.kill(pid, signal.SIGKILL)
    _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, err[-3000:]
    summary = json.loads((workdir / "summary.json").read_text())
    assert summary["state_digest"] == finished[1]["state_digest"]
    assert sum(summary["worker_restarts"].values()) >= 1
    assert "was killed by SIGKILL" in err


def test_another_configuration_is_refused(finished, data):
    workdir = finished[0]
    result = subprocess.run(
        command(workdir, data, "--config.learning.model_lr=1e-3"),
        cwd=ROOT, capture_output=True, text=True, timeout=SECONDS,
    )  # fmt: skip
    assert result.returncode == 1
    assert "learning.model_lr: 0.0003 -> 0.001" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_diverging_run_names_the_quantity(data, tmp_path):
    workdir = tmp_path / "x"
    flags = (f"--config={ROOT}/tests/tiny_run.py:bc", "--config.learning.learning_rate=1e30")
    result = subprocess.run(
        command(workdir, data, *flags), cwd=ROOT, capture_output=True, text=True, timeout=SECONDS
    )
    assert result.returncode == 1 and "Traceback" not in result.stderr
    sentence = r"target/\w+/\w+ is not finite at update [12] \(phase learn\)"
    assert re.search(sentence, result.stderr), result.stderr[-2000:]


def test_bad_data_do_not_spoil_the_workdir(data, tmp_path):
    """The refusal comes before anything is written, so that the same workdir can be used."""
    empty, workdir = tmp_path / "empty", tmp_path / "x"
    empty.mkdir()
    result = subprocess.run(
        command(workdir, empty), cwd=ROOT, capture_output=True, text=True, timeout=SECONDS
    )
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert str(empty) in result.stderr
    assert not (workdir / "config.json").exists()


def test_a_trained_policy_acts(finished):
    policy = load_policy(finished[0], domain="target")
    frame = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    one, two = policy.episode(seed=1), policy.episode(seed=1)
    first = one(frame)
    assert first.shape == (6,) and first.dtype == np.float32 and (np.abs(first) < 1).all()
    np.testing.assert_array_equal(first, two(frame))
    assert not np.array_equal(one(frame), first)  # it remembers the first frame
    with pytest.raises(ValueError, match="no domain elsewhere: use one of source, target"):
        load_policy(finished[0], domain="elsewhere")


def _updates(workdir: Path) -> int:
    path = workdir / "metrics.jsonl"
    return max((r["updates"] for r in read_metrics(path)), default=0) if path.exists() else 0


def _children(pid: int) -> list[int]:
    listing = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=True
    )
    return [int(line) for line in listing.stdout.split()]
