"""Every command on planar tasks: a dataset of each kind, training, evaluation, pictures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TINY = f"--config={ROOT}/tests/tiny_run.py"


def run(module: str, *arguments: str) -> str:
    """What the command prints."""
    done = subprocess.run(
        [sys.executable, "-m", f"experiments.{module}", *arguments], cwd=ROOT,
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def record(directory: Path) -> dict:
    return json.loads((directory / "dataset.json").read_text())


@pytest.mark.slow
def test_every_command_takes_planar_tasks(tmp_path):
    data, online, work = tmp_path / "data", tmp_path / "online", tmp_path / "run"
    steps = "--episode_steps=10"
    run(
        *("collect", "--task=planar/push_desk", "--policy=random", "--episodes=3", steps),
        f"--out={data}",
    )
    run(
        *("collect", "--task=planar/push_body", "--policy=dreamer", "--reference=0.01", steps),
        *(f"{TINY}:dreamer", "--updates=24", f"--workdir={tmp_path / 'agent'}", f"--out={online}"),
    )
    assert record(online)["policy"]["until"] == "medium"

    run(
        *("train", TINY, "--config.source=planar/push_body,planar/push", f"--workdir={work}"),
        *("--config.target=planar/push_desk", f"--config.data={data}"),
        *("--config.schedule.rounds=1", "--config.run.checkpoint_every=100"),
    )
    summary = json.loads((work / "summary.json").read_text())
    assert {"source0", "source1", "target"} <= set(summary["evaluations"])

    played = run("evaluate", f"--workdir={work}", "--episodes=2")
    assert "planar/push_desk" in played
    run(
        *("collect", "--task=planar/push_desk", f"--policy={work}", "--episodes=1", steps),
        f"--out={tmp_path / 'played'}",
    )
    assert record(tmp_path / "played")["profile"] == record(data)["profile"] == "fast"
    run("dataset", "inspect", str(tmp_path / "played"), f"--out={tmp_path / 'pictures'}")
    assert list((tmp_path / "pictures").glob("*.png"))
