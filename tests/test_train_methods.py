"""Every method from its first update to a loaded policy, on small tasks without a renderer.

CoWorld's own whole runs are in test_train.py, on real simulators and by the real command.
"""

from __future__ import annotations

import signal
from dataclasses import replace

import numpy as np
import pytest
import tiny
from record_digests import save_data
from tiny_command import ROOT, finish, start, wait_until

from coworld_jax.config import Config
from coworld_jax.methods import DEFAULT, METHODS
from coworld_jax.records.files import write_config
from coworld_jax.records.metrics import read_metrics
from coworld_jax.training.loop import train
from coworld_jax.workdir import load_policy, needed_domains, restore_run

QUICK = ("bc",)  # test_device.py trains a dreamer
ACTIONS = {"source": 3, "target": 2}
NAMES = sorted(set(METHODS) - {DEFAULT})
OTHERS = tiny.cases(NAMES, QUICK)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    directory = tmp_path_factory.mktemp("methods") / "data"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", "tests", prepend=":")
        save_data(directory)
        yield directory


def tiny_config(method: str, data) -> Config:
    """The tiny configuration of a method, on two tasks with different actions."""
    config = tiny.of_method(method)
    return replace(
        config,
        source=("toy_tasks:wide",),
        target="toy_tasks:windy",
        data=str(data),
        run=replace(config.run, devices=1),
    )


@pytest.mark.parametrize("method", OTHERS)
def test_a_method_trains_resumes_and_acts(method, data, tmp_path):
    config, asked = tiny_config(method, data), []

    def later(returns):
        asked.append(returns)
        return len(asked) > 2

    whole = train(config, tmp_path / "whole")
    assert whole is not None and whole["method"] == method
    assert train(config, tmp_path / "parts", later) is None
    stopped = restore_run(tmp_path / "parts").host["position"]["updates"]
    assert 0 < stopped < whole["updates"]
    parts = train(config, tmp_path / "parts")
    assert parts is not None and parts["state_digest"] == whole["state_digest"]
    logged = [
        sorted(record["updates"] for record in read_metrics(tmp_path / name / "metrics.jsonl"))
        for name in ("whole", "parts")
    ]
    assert logged[0] == logged[1]
    run = restore_run(tmp_path / "parts")
    scored = {domain for phase in run.method.plan for domain in phase.scores}
    assert set(whole["evaluations"]) == scored
    assert set(run.specs) == set(needed_domains(config))
    for domain in run.method.players:
        act = load_policy(tmp_path / "parts", domain=domain).episode(seed=1)
        action = act(np.zeros((64, 64, 3), np.uint8))
        assert action.shape == (ACTIONS[domain],) and (np.abs(action) <= 1.0).all()


@pytest.mark.slow
@pytest.mark.parametrize("method", NAMES)
def test_a_method_ends_as_if_it_had_not_been_killed(method, data, tmp_path):
    """SIGKILL after the first checkpoint; the same command then goes on."""
    flags = (f"--config={ROOT}/tests/tiny_run.py:{method}", "--config.run.devices=1")
    flags += ("--config.source=toy_tasks:wide", "--config.target=toy_tasks:windy")
    whole, _, _ = finish(tmp_path / "whole", data, *flags)
    process = start(tmp_path / "killed", data, *flags)
    # Until it is whole, a checkpoint has a longer name.
    saved = tmp_path / "killed/checkpoints"
    wait_until(lambda: any(path.name.isdigit() for path in saved.glob("*")), process)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    again, _, err = finish(tmp_path / "killed", data, *flags)
    assert "Resumed" in err
    assert again["state_digest"] == whole["state_digest"]


@pytest.mark.parametrize("method", OTHERS)
def test_a_workdir_of_another_method_is_refused(method, data, tmp_path):
    """Before a simulator starts."""
    write_config(tmp_path / "run", tiny_config(DEFAULT, data))
    with pytest.raises(ValueError, match=f"method: '{DEFAULT}' -> '{method}'"):
        train(tiny_config(method, data), tmp_path / "run")
