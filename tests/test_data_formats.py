"""Datasets of other projects, in and out: a counter environment shows every shift by one.

Everything that the environment emits encodes the time step: frame ``t`` shows ``8 t``, and the
action and the reward that led to it are ``t / 64`` and ``10 t``.
"""

from __future__ import annotations

import json

import gymnasium
import h5py
import minari
import numpy as np
import pytest
from episodes import assert_same_episode, make_episode
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage

from coworld_jax.data import DataError, load_directory, load_episode, save_episode, write_metadata
from coworld_jax.data.formats import Request, export_minari, import_episodes

LENGTHS = (5, 3, 4)  # rows of three episodes
FIRST = (1, 11, 21)  # the time steps of their first frames


class Counter(gymnasium.Env):
    """Frames show ``8 state``; each step adds one to it, and takes the action for that."""

    action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def __init__(self, size=64):
        self.size = size
        self.observation_space = gymnasium.spaces.Box(0, 255, (size, size, 3), np.uint8)

    def reset(self, *, seed=None, options=None):
        self.state = FIRST[0] if seed is None else FIRST[seed]
        return self.frame(), {}

    def step(self, action):
        self.state += 1
        assert action[0] == np.float32(self.state / 64), "the action that leads to this state"
        return self.frame(), 10.0 * self.state, False, False, {}

    def frame(self):
        return np.full((self.size, self.size, 3), 8 * self.state, np.uint8)


def play(index, size=64):
    """Observations ``[R]``, actions and rewards ``[R - 1]``, in the order of acting."""
    env = Counter(size)
    observations, actions, rewards = [env.reset(seed=index)[0]], [], []
    for state in range(FIRST[index] + 1, FIRST[index] + LENGTHS[index]):
        actions.append(np.array([state / 64, -state / 64], np.float32))
        observation, reward, *_ = env.step(actions[-1])
        observations.append(observation)
        rewards.append(reward)
    return np.stack(observations), np.stack(actions), np.array(rewards)


def assert_counts(directory, last_discount=(1.0, 1.0, 1.0), tolerance=0):
    """Each row of the imported episodes holds the numbers of its own time step.

    Frames are compared where they are flat; a tolerance below 4 tells two steps apart.
    """
    dataset = load_directory(directory, minimum_rows=1)
    assert dataset.lengths.tolist() == list(LENGTHS)
    for index, (start, rows) in enumerate(zip(dataset.starts, dataset.lengths)):
        here = slice(start, start + rows)
        state = np.arange(FIRST[index], FIRST[index] + rows)
        led = state.astype(np.float32) * (np.arange(rows) > 0)  # nothing led to the reset
        wanted = np.broadcast_to(8 * state[:, None, None, None], (rows, 64, 24, 3))
        flat = dataset.image[here, :, :24].astype(int)
        np.testing.assert_allclose(flat, wanted, rtol=0, atol=tolerance)
        np.testing.assert_array_equal(dataset.action[here, 0], led / 64)
        np.testing.assert_array_equal(dataset.action[here, 1], -led / 64)
        np.testing.assert_array_equal(dataset.reward[here], 10 * led)
        discount = np.ones(rows)
        discount[-1] = last_discount[index]
        np.testing.assert_array_equal(dataset.discount[here], discount)


# --- V-D4RL ---------------------------------------------------------------------------------------


def save_vd4rl(path, episodes=(0, 1, 2), size=84, **changes):
    """A shard as V-D4RL has it: rows of dm_env with the action that led to them."""
    parts = {key: [] for key in ("observation", "action", "reward", "discount", "step_type")}
    for index in episodes:
        image, action, reward = play(index, size)
        rows = len(image)
        parts["observation"].append(image.transpose(0, 3, 1, 2))
        parts["action"].append(np.concatenate([np.zeros((1, 2)), action]).astype(np.float32))
        parts["reward"].append(np.concatenate([[0.0], reward]))
        parts["discount"].append(np.ones(rows))
        parts["step_type"].append(np.array([0.0] + [1.0] * (rows - 2) + [2.0]))
    arrays = {key: np.concatenate(part) for key, part in parts.items()} | changes
    with h5py.File(path, "w") as file:
        for key, value in arrays.items():
            if value is not None:
                zipped = "gzip" if np.ndim(value) else None
                file.create_dataset(key, data=value, compression=zipped)
    return path


def test_vd4rl_rows_stay_where_they_are(tmp_path):
    source = tmp_path / "84px"
    source.mkdir()
    save_vd4rl(source / "shard_0.hdf5", (0, 1))
    save_vd4rl(source / "shard_1.hdf5", (2,))
    imported = import_episodes(source, tmp_path / "out")
    assert imported[:3] == ("vd4rl", 3, sum(LENGTHS))
    assert imported.resized == "84 to 64 pixels, filter hamming"
    assert_counts(tmp_path / "out")
    record = json.loads((tmp_path / "out" / "import.json").read_text())
    assert record["files"] == 2 and record["resized"] == imported.resized


def test_pixels_stay_where_they_are_when_resized(tmp_path):
    """Not transposed, mirrored or with colours exchanged: a frame with one bright corner."""
    frames = np.zeros((sum(LENGTHS), 3, 84, 84), np.uint8)
    frames[:, 0, :21, 63:] = 200  # red, at the top right
    import_episodes(save_vd4rl(tmp_path / "x.hdf5", observation=frames), tmp_path / "out")
    image = load_directory(tmp_path / "out", minimum_rows=1).image
    assert (image[:, :14, 50:, 0] == 200).all() and not image[:, 18:].any()
    assert not image[..., 1:].any() and not image[:, :, :46].any()


# --- OGBench --------------------------------------------------------------------------------------


def save_ogbench(path, rewards=True, **changes):
    """Flat rows: an action stands with the frame that it is for; the last row has some, unused."""
    parts = {key: [] for key in ("observations", "actions", "rewards", "terminals", "qpos")}
    for index in range(3):
        image, action, reward = play(index)
        parts["observations"].append(image)
        parts["actions"].append(np.concatenate([action, np.full((1, 2), 0.5, np.float32)]))
        parts["rewards"].append(np.concatenate([reward, [-77.0]]).astype(np.float32))
        parts["terminals"].append((np.arange(len(image)) == len(image) - 1).astype(np.float32))
        parts["qpos"].append(image[:, 0, 0, :1] / 8)
    arrays = {key: np.concatenate(part) for key, part in parts.items()} | changes
    if not rewards:
        np.save(path.with_suffix(".npy"), arrays.pop("rewards"))
    np.savez_compressed(path, **arrays)
    return path


def test_ogbench_actions_move_to_the_frame_that_they_led_to(tmp_path):
    masks = np.ones(sum(LENGTHS), np.float32)
    masks[LENGTHS[0] - 2] = 0.0  # the last action of the first trajectory ends the task
    out = tmp_path / "out"
    imported = import_episodes(save_ogbench(tmp_path / "x.npz", masks=masks, note=np.ones(2)), out)
    assert imported[:3] == ("ogbench", 3, sum(LENGTHS)) and imported.resized == ""
    assert imported.left_out == {"note": 3}
    assert_counts(out, last_discount=(0.0, 1.0, 1.0))
    episode = load_episode(sorted(out.glob("*.npz"))[1])
    assert episode.extras["qpos"][:, 0].tolist() == [11, 12, 13]


def test_ogbench_needs_rewards_and_says_which(tmp_path):
    source = save_ogbench(tmp_path / "base.npz", rewards=False)
    with pytest.raises(DataError, match=r"base.npz: key 'rewards' is missing.*--rewards=FILE.npy, "
                       r"float \[12\], row t for actions\[t\]"):  # fmt: skip
        import_episodes(source, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"base.npz", "base.npy"}
    import_episodes(source, tmp_path / "out", request=Request(rewards=tmp_path / "base.npy"))
    assert_counts(tmp_path / "out")
    np.save(tmp_path / "base.npy", np.zeros(11))
    with pytest.raises(DataError, match=r"base.npy: key 'rewards' has shape \[11\], but \[12\]"):
        import_episodes(source, tmp_path / "b", request=Request(rewards=tmp_path / "base.npy"))


# --- Minari ---------------------------------------------------------------------------------------


def save_minari(directory, jpeg, observations=lambda image: image, space=lambda box: box):
    """Written by Minari itself."""
    storage = MinariStorage.new(
        directory, space(Counter().observation_space), Counter.action_space,
        data_format="hdf5", jpeg_encoding=jpeg,
    )  # fmt: skip
    for index in range(3):
        image, action, reward = play(index)
        ended = np.arange(len(action)) == len(action) - 1
        buffer = EpisodeBuffer(
            observations=observations(image), actions=action, rewards=reward,
            terminations=ended & (index == 2), truncations=ended & (index != 2),
            infos={"speed": np.arange(len(image), dtype=np.float64), "short": np.ones(len(action))},
        )  # fmt: skip
        storage.update_episodes([buffer])
    return directory


def textured(image):
    """Noise in the right half, more of it from frame to frame: JPEG files of different lengths."""
    image = image.copy()
    noise = np.random.default_rng(0).integers(0, 256, image[:, :, 32:].shape, np.uint8)
    image[:, :, 32:] = noise // (1 + np.arange(len(image), dtype=np.uint8))[:, None, None, None]
    return image


@pytest.mark.parametrize("jpeg", [False, True])
def test_minari_actions_move_to_the_frame_that_they_led_to(tmp_path, jpeg):
    (tmp_path / "counter-v0").mkdir()
    data = save_minari(tmp_path / "counter-v0" / "data", jpeg, textured)
    with h5py.File(data / "main_data.hdf5") as file:
        ragged = h5py.check_vlen_dtype(file["episode_0/observations"].dtype)
        assert ragged == (np.uint8 if jpeg else None)
    imported = import_episodes(tmp_path / "counter-v0", tmp_path / "out")
    assert imported[:3] == ("minari", 3, sum(LENGTHS))
    assert imported.left_out == {"infos/short": 3}
    assert_counts(tmp_path / "out", last_discount=(1.0, 1.0, 0.0), tolerance=2 * jpeg)
    first = load_episode(sorted((tmp_path / "out").glob("*.npz"))[0])
    assert first.extras["speed"].tolist() == [0, 1, 2, 3, 4]
    if not jpeg:
        np.testing.assert_array_equal(first.image, textured(play(0)[0]))


def test_a_minari_observation_without_a_name_keeps_its_key(tmp_path):
    source = save_minari(tmp_path / "data", jpeg=False, observations=lambda image: image[:, 0, 0])
    with h5py.File(source / "main_data.hdf5", "a") as file:
        for index in range(3):
            file[f"episode_{index}/infos/frames"] = play(index)[0]
    import_episodes(source, tmp_path / "out", request=Request(image_key="infos/frames"))
    first = load_episode(sorted((tmp_path / "out").glob("*.npz"))[0])
    np.testing.assert_array_equal(first.extras["observations"], play(0)[0][:, 0, 0])


def test_minari_frames_of_equal_length_files_and_beside_other_observations(tmp_path):
    def several(image):
        return {"rgb": image, "depth": image, "state": image[:, 0, 0] / 8}

    def space(box):
        state = gymnasium.spaces.Box(-1, 1, (3,))
        return gymnasium.spaces.Dict({"rgb": box, "depth": box, "state": state})

    source = save_minari(tmp_path / "data", jpeg=True, observations=several, space=space)
    with pytest.raises(DataError, match="episode_0/observations' holds 2 arrays of frames .*rgb.*"
                       "--image_key"):  # fmt: skip
        import_episodes(source, tmp_path / "out")
    request = Request(image_key="observations/rgb")
    imported = import_episodes(source, tmp_path / "out", request=request)
    assert imported.left_out == {"infos/short": 3, "observations/depth": 3}
    assert_counts(tmp_path / "out", last_discount=(1.0, 1.0, 0.0), tolerance=2)
    episode = load_episode(sorted((tmp_path / "out").glob("*.npz"))[0])
    assert episode.extras["state"][:, 0].tolist() == [1, 2, 3, 4, 5]
    with pytest.raises(DataError, match="episode_0/rgb' is missing; the episode has: infos/"):
        import_episodes(source, tmp_path / "b", request=Request(image_key="rgb"))


def odd_episodes(directory):
    """Episodes with all that a file may hold: extras, a discount between, a reset that acts."""
    plain = make_episode(0, 6, state=np.arange(6.0), is_last=np.arange(6) == 5)
    plain.extras["log/depth"] = np.arange(12).reshape(6, 2)
    acting = make_episode(1, 4, logprob=np.ones((4, 2), np.float16))
    acting.action[0], acting.reward[0], acting.action[1] = 0.25, -2.0, 3.5
    ended = make_episode(2, 5, is_first=np.array([1, 0, 0, 0, 0], np.uint8))
    ended.discount[2:] = (0.5, 0.99, 0.0)
    for index, episode in enumerate((plain, acting, ended)):
        save_episode(directory, episode, name=f"20240101T00000{index}-abc-77")
    record = {
        "task": "dmc/walker_walk", "profile": "fast", "action_size": 3, "action_repeat": 2,
        "image_size": 64, "seed": 4,
    }  # fmt: skip
    write_metadata(directory, record)
    return directory


def test_export_to_minari_and_back_changes_no_bit(tmp_path):
    source = odd_episodes(tmp_path / "episodes")
    export_minari(source, tmp_path / "walker-v0")
    import_episodes(tmp_path / "walker-v0", tmp_path / "back")
    names = [path.name for path in sorted(source.glob("*.npz"))]
    assert [path.name for path in sorted((tmp_path / "back").glob("*.npz"))] == names
    for name in names:
        assert_same_episode(load_episode(tmp_path / "back" / name), load_episode(source / name))
    assert (tmp_path / "back" / "dataset.json").read_text() == (source / "dataset.json").read_text()


def test_two_episodes_of_one_name_are_two(tmp_path):
    """As in a file that was merged of two exports, and where numbers are names already."""
    source = tmp_path / "episodes"
    for index, number in enumerate((3, 2)):
        save_episode(source, make_episode(index), name=f"{number:06d}-9")
    export_minari(source, tmp_path / "walker-v0")
    with h5py.File(tmp_path / "walker-v0" / "data" / "main_data.hdf5", "a") as file:
        for index in range(2):
            file.copy(file[f"episode_{index}"], f"episode_{index + 2}")
    assert import_episodes(tmp_path / "walker-v0", tmp_path / "back").episodes == 4
    assert len(list((tmp_path / "back").glob("*.npz"))) == 4


def test_minaris_episodes_keep_their_order_and_their_frames_the_right_way_up(tmp_path):
    """Eleven episodes, whose names sort otherwise, with frames stored channels first."""
    path = tmp_path / "main_data.hdf5"
    with h5py.File(path, "w") as file:
        for index in range(11):
            frames = np.zeros((2, 3, 64, 64), np.uint8)
            frames[:, 0, :20, 40:] = 10 * index  # red, at the top right
            group = file.create_group(f"episode_{index}")
            group["observations"], group["actions"] = frames, np.zeros((1, 2), np.float32)
            group["rewards"], group["terminations"] = np.zeros(1), np.zeros(1, bool)
    import_episodes(path, tmp_path / "out")
    image = load_directory(tmp_path / "out", minimum_rows=1).image[::2]
    assert image[:, 0, 63, 0].tolist() == [10 * index for index in range(11)]
    assert not image[:, 20:].any() and not image[:, :, :40].any() and not image[..., 1:].any()


def test_minari_itself_reads_what_is_exported(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    source = odd_episodes(tmp_path / "episodes")
    export_minari(source, tmp_path / "walker-v0")
    dataset = minari.load_dataset("walker-v0")
    assert (dataset.total_episodes, dataset.total_steps) == (3, 12)
    for path, episode in zip(sorted(source.glob("*.npz")), dataset.iterate_episodes(), strict=True):
        ours = load_episode(path)
        np.testing.assert_array_equal(episode.observations, ours.image)
        np.testing.assert_array_equal(episode.actions, ours.action[1:])
        np.testing.assert_array_equal(episode.rewards, ours.reward[1:])
        assert episode.terminations[-1] == (ours.discount[-1] == 0.0) != episode.truncations[-1]


def test_what_minari_cannot_take_is_named_and_nothing_is_left(tmp_path):
    source = tmp_path / "episodes"
    save_episode(source, make_episode(0, 4), name="a")
    with pytest.raises(DataError, match="ends in a version: name it .*walker-v0 instead of"):
        export_minari(source, tmp_path / "walker")
    save_episode(source, make_episode(0, 4, note=np.array(["x"] * 4)), name="b")
    with pytest.raises(DataError, match="b.npz: key 'note' is <U1 .*Minari takes numbers"):
        export_minari(source, tmp_path / "walker-v0")
    save_episode(source, make_episode(0, 4, action_size=2), name="b")
    with pytest.raises(DataError, match="b.npz: key 'action' has 2 coordinates, but a.npz has 3"):
        export_minari(source, tmp_path / "walker-v0")
    save_episode(source, make_episode(0, 1), name="b")
    with pytest.raises(DataError, match="b.npz: key 'reward' has the reset alone"):
        export_minari(source, tmp_path / "walker-v0")
    assert [path.name for path in tmp_path.iterdir()] == ["episodes"]
