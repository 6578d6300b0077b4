"""Actions in other units than [-1, 1]: scaled by the space that was recorded with them."""

from __future__ import annotations

import json

import gymnasium
import h5py
import minari
import numpy as np
import pytest
from episodes import make_episode, save_three
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage

from coworld_jax.data import DataError, load_directory, save_episode
from coworld_jax.data.formats import Request, export_minari, import_episodes
from experiments import dataset as command

# Four steps of three coordinates; the last row is outside the recorded space by much.
ACTIONS = np.array(
    [[0.0, 0.0, 1.0], [2.0, 3.0, -1.0], [-2.0, -1.0, 0.5], [4.0, 1.0, 0.0]], np.float32
)
# Bounds of -2 and 2, of -1 and 3 (asymmetric), and of the usual -1 and 1.
LOW, HIGH = [-2.0, -1.0, -1.0], [2.0, 3.0, 1.0]
SCALED = np.array([[0, -0.5, 1], [1, 1, -1], [-1, -1, 0.5], [2, 0, 0]], np.float32)


def save_minari(directory, low, high, actions=ACTIONS):
    """One episode, by Minari itself."""
    directory.mkdir()
    storage = MinariStorage.new(
        directory / "data",
        observation_space=gymnasium.spaces.Box(0, 255, (64, 64, 3), np.uint8),
        action_space=gymnasium.spaces.Box(np.array(low, "f4"), np.array(high, "f4")),
        data_format="hdf5", jpeg_encoding=False,
    )  # fmt: skip
    steps = len(actions)
    buffer = EpisodeBuffer(
        observations=np.zeros((steps + 1, 64, 64, 3), np.uint8), actions=actions,
        rewards=np.arange(steps) / 2, terminations=np.zeros(steps, bool),
        truncations=np.arange(steps) == steps - 1, infos={},
    )  # fmt: skip
    storage.update_episodes([buffer])
    return directory


def actions_of(directory):
    """Actions that somebody chose, ``[env_steps, A]``, of a directory of one episode."""
    loaded = load_directory(directory, minimum_rows=1)
    np.testing.assert_array_equal(loaded.action[0], 0.0)  # the reset has none, in any units
    return loaded.action[1:]


def test_minaris_actions_are_scaled_by_the_recorded_space_and_never_clipped(tmp_path, capsys):
    source = save_minari(tmp_path / "source", LOW, HIGH)
    assert command.import_source(source, tmp_path / "out", form=None, request=Request()) == 0
    np.testing.assert_array_equal(actions_of(tmp_path / "out"), SCALED)
    record = json.loads((tmp_path / "out" / "import.json").read_text())
    assert record["action_space"] == {"low": LOW, "high": HIGH}
    said = capsys.readouterr().out
    assert "scaled to [-1, 1] from [-2.0, -1.0, -1.0] and [2.0, 3.0, 1.0]" in said
    assert "In 25.00% of the env_steps an action is outside [-1, 1]." in said
    assert load_directory(tmp_path / "out", minimum_rows=1).actions_outside == 0.25


def test_the_export_gives_the_source_its_units_back(tmp_path, monkeypatch):
    low, high = [-0.3, 0.1, -7.0], [2.9, 0.7, 11.0]
    drawn = np.random.default_rng(0).uniform(low, high, (40, 3)).astype(np.float32)
    import_episodes(save_minari(tmp_path / "source", low, high, drawn), tmp_path / "out")
    export_minari(tmp_path / "out", tmp_path / "again-v0")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    theirs = minari.load_dataset("again-v0")
    np.testing.assert_allclose(theirs.action_space.low, np.array(low, "f4"), rtol=1e-7)
    (episode,) = theirs.iterate_episodes()
    np.testing.assert_allclose(episode.actions, drawn, rtol=0, atol=2e-6)
    import_episodes(tmp_path / "again-v0", tmp_path / "back")
    np.testing.assert_array_equal(actions_of(tmp_path / "back"), actions_of(tmp_path / "out"))


@pytest.mark.parametrize(
    ("low", "high"),
    [
        pytest.param([-1, -1, -1], [1, 1, 1], id="usual"),
        pytest.param([-1.000001, -1, -1], [1, 0.999999, 1.000001], id="usual up to rounding"),
        pytest.param([-np.inf, -2, -3.4028235e38], [1, np.inf, 3.4028235e38], id="no bounds"),
    ],
)
def test_usual_bounds_and_missing_bounds_leave_actions_as_they_are(tmp_path, low, high):
    import_episodes(save_minari(tmp_path / "source", low, high), tmp_path / "out")
    np.testing.assert_array_equal(actions_of(tmp_path / "out"), ACTIONS)
    record = json.loads((tmp_path / "out" / "import.json").read_text())
    assert record["action_space"] is None


def test_a_coordinate_of_a_single_value_becomes_zero(tmp_path):
    actions = ACTIONS.copy()
    actions[:, 0] = 5.0
    source = save_minari(tmp_path / "source", [5.0, -1, -1], [5.0, 3, 1], actions)
    import_episodes(source, tmp_path / "out")
    np.testing.assert_array_equal(actions_of(tmp_path / "out")[:, 0], 0.0)
    np.testing.assert_array_equal(actions_of(tmp_path / "out")[:, 1:], SCALED[:, 1:])


def test_the_space_of_older_minari_files_lies_in_the_hdf5_file(tmp_path):
    source = save_minari(tmp_path / "source", LOW, HIGH)
    beside = source / "data" / "metadata.json"
    space = json.loads(beside.read_text())["action_space"]
    beside.unlink()
    with h5py.File(source / "data" / "main_data.hdf5", "a") as file:
        file.attrs["action_space"] = space
    import_episodes(source, tmp_path / "out")
    np.testing.assert_array_equal(actions_of(tmp_path / "out"), SCALED)


@pytest.mark.parametrize(
    ("space", "reason"),
    [
        ({"low": [1.0] * 3, "high": [-1.0] * 3}, "low must not exceed high"),
        ({"low": [-2.0] * 2, "high": [2.0] * 2}, "has 3 coordinates, but the action space has 2"),
        ({"low": [-2.0] * 3, "high": [2.0] * 2}, "low must not exceed high"),
        ({"low": None, "high": [2.0] * 3}, "low must not exceed high"),
        ({"high": [2.0] * 3}, "has no bounds low and high"),
        ("a box", "is no JSON"),
    ],
)
def test_a_space_that_cannot_be_meant_is_refused(tmp_path, space, reason):
    source = save_minari(tmp_path / "source", LOW, HIGH)
    beside = source / "data" / "metadata.json"
    text = space if isinstance(space, str) else json.dumps({"type": "Box", **space})
    beside.write_text(json.dumps(json.loads(beside.read_text()) | {"action_space": text}))
    with pytest.raises(DataError, match=reason) as info:
        import_episodes(source, tmp_path / "out")
    assert len(str(info.value).splitlines()) == 1 and not (tmp_path / "out").exists()


def test_the_share_of_actions_outside_is_that_of_env_steps(tmp_path):
    save_three(tmp_path)  # 20 env_steps
    assert load_directory(tmp_path, minimum_rows=1).actions_outside == 0.0
    episode = make_episode(3, 6)
    episode.action[:] = 1.000001  # rounding
    episode.action[0] = 7.0  # a reset is no env_step
    episode.action[2, 1] = -1.5
    save_episode(tmp_path, episode, name="000003")
    assert load_directory(tmp_path, minimum_rows=1).actions_outside == 1 / 25


def test_files_in_two_units_are_not_merged(tmp_path):
    """There would be no one inverse of the scaling."""
    space = json.dumps({"type": "Box", "low": LOW, "high": HIGH})
    for index, bounds in enumerate((space, None)):
        source = save_minari(tmp_path / f"source{index}", LOW, HIGH) / "data"
        path = (source / "main_data.hdf5").rename(tmp_path / f"{index}.hdf5")
        if bounds is not None:
            with h5py.File(path, "a") as file:
                file.attrs["action_space"] = bounds
    with pytest.raises(DataError, match="1.hdf5: key 'action_space' has bounds None, but .*apart"):
        import_episodes(tmp_path, tmp_path.with_name("out"), form="minari")
