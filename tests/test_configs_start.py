"""The paper's pairs start: the real command, on their simulators, with networks of a few units."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from test_configs import FILES, NAMES, ROOT, SECONDS

from coworld_jax import config as configuration
from coworld_jax.data import load_episode
from coworld_jax.envs import EnvironmentPool, RandomPolicy
from coworld_jax.records.files import read_tasks
from coworld_jax.records.metrics import read_metrics
from experiments.collecting.played import collect

STEPS = 10
# Networks of a few units on one device: what is tested is that all parts of a pair fit together.
TINY = {
    **{
        path: value
        for path, value in configuration.flatten(tiny.CONFIG).items()
        if path.startswith(("network.", "learning.", "schedule.", "run."))
    },
    "run.devices": 1,
    "schedule.pretrain_updates": 2,
    "schedule.rounds": 1,
}
# The phases in which data of both domains meet.
SHORTEST = TINY | {"schedule.pretrain_updates": 0, "schedule.rounds": 1}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Directory of two short random episodes of a task, collected once for all that need it."""
    root, made = tmp_path_factory.mktemp("datasets"), {}

    def collected(task: str) -> Path:
        if task not in made:
            made[task] = root / str(len(made))
            with EnvironmentPool(task, profile="fast", episode_steps=STEPS) as pool:
                collect(
                    made[task],
                    pool,
                    RandomPolicy(pool.spec.action_size),
                    played_by="random",
                    episodes=2,
                    seed=0,
                    command="tests",
                )
        return made[task]

    return collected


def start(file: str, pair: str, fields: dict, data: Path, workdir: Path) -> list[str]:
    """Run the real command on the pair's real simulators; check what all pairs have in common.

    Returns:
        The kinds of phases that ran.
    """
    line = FILES[file].PAIRS[pair]
    flags = [f"--config.{path}={value}" for path, value in fields.items()]
    result = subprocess.run(
        [sys.executable, "-m", "experiments.train", f"--workdir={workdir}",
         f"--config=experiments/configs/{file}.py:{pair},small", f"--config.data={data}", *flags],
        cwd=ROOT, capture_output=True, text=True, timeout=SECONDS,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    specs = read_tasks(workdir)
    assert [spec.task for spec in specs.values()] == [*line.source, line.target]
    summary = json.loads((workdir / "summary.json").read_text())
    assert set(summary["evaluations"]) == set(specs)
    for domain in specs:
        assert (workdir / "pictures" / f"{domain}_rollout.gif").stat().st_size > 1000
    keys = {key for record in read_metrics(workdir / "metrics.jsonl") for key in record}
    assert {"target/model/alignment", "source/model/source_reward_weight"} <= keys
    return re.findall(r"Compiling (.*), 2 updates in a call", result.stderr)


@pytest.mark.slow
def test_metaworld_to_robodesk_starts(dataset, tmp_path):
    """4 actions and 5, rewards of 0 to 10 and of 0 to 1, two cameras: one pair has all of it."""
    data, workdir = dataset("robodesk/push_green"), tmp_path / "x"
    kinds = start("robodesk", "push_green", SHORTEST, data, workdir)
    assert kinds == ["warm-up", "co-train source", "target"]
    offline = [load_episode(path) for path in data.glob("*.npz")]
    online = [load_episode(path) for path in (workdir / "replay" / "source").glob("*.npz")]
    assert {episode.action.shape[1] for episode in offline} == {5}
    assert {episode.action.shape[1] for episode in online} == {4}  # by chance, then by the policy
    assert len(online) == 2 + 1
    assert max(episode.reward.max() for episode in offline) <= 1.0


# Table 9 is Table 3 with other data, so that its configurations are no others.
DISTINCT = [(file, pair) for file, pair in NAMES if not pair.endswith("-expert")]


@pytest.mark.slow
@pytest.mark.parametrize(("file", "pair"), DISTINCT)
def test_every_pair_starts(file, pair, dataset, tmp_path):
    data = dataset(FILES[file].PAIRS[pair].target)
    kinds = start(file, pair, TINY, data, tmp_path / "x")
    assert set(kinds) == {"pretrain", "warm-up", "co-train source", "target"}
