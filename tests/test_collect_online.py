"""Medium and expert datasets: the rule by hand, and a real agent that learns in a simulator."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny

from coworld_jax.data import load_directory, load_episode
from coworld_jax.workdir import needed_domains
from experiments.collecting.online import (
    collect_online,
    episodes_until,
    online_config,
    window_means,
)
from experiments.collecting.references import reference_return

ROOT = Path(__file__).resolve().parent.parent
UPDATES = 24  # one episode for every two of them, after two random ones
CONFIG = replace(tiny.of_method("dreamer"), run=replace(tiny.CONFIG.run, checkpoint_every=1000))
CONFIG = replace(CONFIG, settings=replace(CONFIG.settings, model_updates=0))
ROWS = tiny.CONFIG.schedule.episode_steps + 1


def test_the_rule_by_hand():
    """Nine zeros and a 30 have mean 3; the mean of ten counts, not a single return."""
    returns = [0.0] * 9 + [30.0] + [40.0] * 5
    assert episodes_until(returns[:9], 0.0) is None  # nine episodes are too few
    assert episodes_until(returns, 3.0) == 10
    assert episodes_until(returns, 3.1) == 11  # (0 * 8 + 30 + 40) / 10 = 7
    assert episodes_until(returns, 23.0) == 15  # (0 * 4 + 30 + 40 * 5) / 10
    assert episodes_until(returns, 23.1) is None
    assert episodes_until([5.0] * 10 + [0.0] * 10, 5.0) == 10  # reached once is reached


def test_references_are_the_tasks():
    assert reference_return("dmc/walker_downhill") == 848.0
    assert reference_return("metaworld/door-close+noise=0.1") == 3967.0
    assert reference_return("metaworld/button-press-topdown") == 3889.0  # and not a noisy one's
    assert reference_return("metaworld/button-press-topdown+noise=5") == 951.0
    with pytest.raises(ValueError, match="No return of dmc/walker_walk was published.*--reference"):
        reference_return("dmc/walker_walk")


def collect(out, workdir, until="medium", reference=0.0, updates=UPDATES):
    config = online_config(CONFIG, "dmc/walker_downhill", seed=5, updates=updates)
    return collect_online(
        out, workdir, config, until=until, reference=reference, command="the command"
    )


@pytest.fixture(scope="module")
def medium(tmp_path_factory):
    """A dataset, and the workdir of its agent."""
    folder = tmp_path_factory.mktemp("online")
    assert collect(folder / "medium", folder / "run") == 10
    return folder / "medium", folder / "run"


def test_an_agent_learns_until_it_is_good_enough(medium):
    out, workdir = medium
    dataset = load_directory(out, minimum_rows=ROWS, action_size=6)
    assert dataset.lengths.tolist() == [ROWS] * 10
    record = json.loads((out / "dataset.json").read_text())
    assert record["task"] == "dmc/walker_downhill" and record["seed"] == 5
    assert record["policy"]["until"] == "medium" and record["command"] == "the command"
    # In the order in which the agent saw them, its random episodes first.
    replay = [load_episode(path) for path in sorted((workdir / "replay/source").glob("*.npz"))]
    for path, seen in zip(sorted(out.glob("*.npz")), replay, strict=False):
        np.testing.assert_array_equal(load_episode(path).image, seen.image)

    # A dataset that lost its end gets the same bytes again, without a further update.
    lost = sorted(out.glob("*.npz"))[3]
    before, steps = lost.read_bytes(), sorted((workdir / "checkpoints").iterdir())
    lost.unlink()
    assert collect(out, workdir) == 10
    assert lost.read_bytes() == before
    assert sorted((workdir / "checkpoints").iterdir()) == steps

    with pytest.raises(ValueError, match="other settings .policy: .*medium.*-> .*expert"):
        collect(out, workdir, until="expert")


@pytest.mark.slow
def test_expert_goes_on_in_the_same_workdir_as_far_as_its_updates_reach(medium, tmp_path, capsys):
    _, workdir = medium
    with pytest.raises(ValueError, match="made all of its 24 updates.*expert wants 1e.06.*--ref"):
        collect(tmp_path / "expert", workdir, until="expert", reference=1e6)
    assert not list((tmp_path / "expert").iterdir())
    assert json.loads((workdir / "summary.json").read_text())["updates"] == UPDATES
    replay = sorted((workdir / "replay/source").glob("*.npz"))
    assert len(replay) == 2 + UPDATES // 2

    # What the agent had reached by then is still found in the workdir, the last episode included.
    means = window_means([load_episode(path).reward.sum() for path in replay])
    count = 10 + int(np.argmax(means))
    reference = float(means.max()) * (1 - 1e-6)
    assert collect(tmp_path / "late", workdir, until="expert", reference=reference) == count
    assert len(list((tmp_path / "late").glob("*.npz"))) == count < len(replay) + 1
    assert "best mean return of 10" in capsys.readouterr().err
    # And more updates go on with it.
    with pytest.raises(ValueError, match="made all of its 26 updates"):
        collect(tmp_path / "more", workdir, until="expert", reference=1e6, updates=UPDATES + 2)
    assert len(list((workdir / "replay/source").glob("*.npz"))) == len(replay) + 1


def test_a_target_has_no_part_in_it():
    config = online_config(replace(CONFIG, data="somewhere"), "dmc/cheetah_run", 3, 100)
    assert (config.source, config.target, config.data) == (("dmc/cheetah_run",), "", "")
    assert (config.seed, config.settings.updates, config.settings.domain) == (3, 100, "source")
    assert needed_domains(config) == ("source",)


REFUSED = {
    "--until=medium": "--until has no meaning with --policy=random",
    "--policy=dreamer --config.updates=2": "--task, --seed and --updates decide that",
    "--config.learning.bach=3": "did you mean --config.learning.batch",
}
MORE_REFUSED = {
    "--policy=dreamer": "give it a directory with --workdir",
    "--policy=dreamer --noexplore": "--noexplore has no meaning with --policy=dreamer",
    "--policy=dreamer --workdir=w --reference=-3": "--reference is -3, but a share of it",
}


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        *REFUSED.items(),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in MORE_REFUSED.items()),
    ],
)
def test_flags_that_would_be_ignored_are_refused(tmp_path, flag, said):
    command = [sys.executable, "-m", "experiments.collect", "--task=dmc/walker_walk"]
    done = subprocess.run(
        [*command, f"--out={tmp_path / 'set'}", *flag.split()],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1 and said in done.stderr and "Traceback" not in done.stderr
