"""Options in names of tasks, and environments that the project does not know."""

import av
import gymnasium
import numpy as np
import pytest
from PIL import Image

from coworld_jax.envs import (
    EnvironmentPool,
    RandomPolicy,
    Request,
    Timestep,
    WorkerFailed,
    from_gymnasium,
    make_environment,
)
from coworld_jax.envs.background import Background
from coworld_jax.envs.naming import parse_task
from coworld_jax.envs.wrappers import NoisyActions, SparseReward
from experiments.benchmarks.env import measure

DOOR = "metaworld/door-close"
PENDULUM = "experiments.examples.pendulum:pendulum"
CUP = """
from dm_control import suite

from coworld_jax.envs import from_dm_env


def cup(request):
    return from_dm_env(
        lambda seed: suite.load("ball_in_cup", "catch", task_kwargs={"random": seed}),
        request,
        frame=lambda environment: environment.physics.render(48, 48),
        simulator_steps=1000,
        action_repeat=4,
    )
"""


def test_a_name_has_one_spelling():
    for text in (f"{DOOR}+sparse+noise=1.0", f"{DOOR}+noise=1+sparse", f"{DOOR}+noise=1e0+sparse"):
        assert str(parse_task(text)) == f"{DOOR}+noise=1+sparse"
    large = parse_task("planar/reach+reward=1000000+camera=-12.3456789+noise=1e-6")
    assert str(large) == "planar/reach+camera=-12.3456789+noise=1e-06+reward=1000000"
    assert parse_task(str(large)) == large
    task = parse_task("my.tasks:own+noise=0.1")
    assert (task.suite, task.name) == ("", "my.tasks:own")
    assert (task.chosen("noise"), task.chosen("sparse")) == ("0.1", None)


@pytest.mark.parametrize(
    "name, sentence",
    [
        (f"{DOOR}+nosie=1", "no option 'nosie' of tasks; known: "),
        (f"{DOOR}+noise", "noise= is no number from 1e-6 to 1e6"),
        (f"{DOOR}+noise=nan", "noise=nan is no number from 1e-6 to 1e6"),
        (f"{DOOR}+sparse=1", "sparse=1 is a switch, which takes no value"),
        (f"{DOOR}+sparse+sparse", "the option sparse is given twice"),
        (f"{DOOR}+corrected", f"{DOOR} has no option corrected; it has noise, sparse"),
        ("dmc/walker_walk+sparse", "has no option sparse"),
        ("metaworld/door-clos+sparse", "did you mean 'metaworld/door-close'"),
        ("nowhere_at_all:own", "No module named 'nowhere_at_all'. Its folder must be"),
        ("math:own", "math:own: module 'math' has no attribute 'own'"),
        (f"{PENDULUM}+sparse", "this task does not say when it succeeded"),
    ],
)
def test_bad_names_are_refused_in_one_sentence(name, sentence):
    with pytest.raises(ValueError, match=sentence.replace("+", r"\+")):
        make_environment(name, profile="fast").reset(0)


class Recorder:
    """An environment that keeps what it is told to do, and succeeds at its second step."""

    def __init__(self, size):
        self.taken, self._size = [], size

    @property
    def spec(self):
        return make_spec(self._size)

    def reset(self, seed):
        self.taken = []
        return self._timestep()

    def step(self, action):
        self.taken.append(action)
        return self._timestep()

    def close(self):
        pass

    def _timestep(self):
        success = np.array(len(self.taken) == 2)
        return Timestep(np.zeros((2, 2, 3), np.uint8), 3.0, 1.0, False, {"success": success})


def make_spec(size):
    from coworld_jax.envs import EnvironmentSpec

    return EnvironmentSpec("test/recorder", size, 1, 10, 2, "fast", {})


def test_noise_is_gaussian_clipped_and_the_seeds():
    recorder = Recorder(20_000)
    noisy = NoisyActions(recorder, 0.1)
    noisy.reset(3)
    for action in (0.5, 2.0):  # beyond the range counts as its end, before the noise
        noisy.step(np.full(20_000, action, np.float32))
    first, second = recorder.taken
    assert (first.dtype, np.abs(second).max()) == (np.float32, 1.0)
    assert first.mean() == pytest.approx(0.5, abs=0.005)
    assert first.std() == pytest.approx(0.1, abs=0.005)
    assert (second == 1.0).mean() == pytest.approx(0.5, abs=0.02)
    noisy.reset(3)
    noisy.step(np.full(20_000, 0.5, np.float32))
    np.testing.assert_array_equal(recorder.taken[0], first)
    noisy.reset(4)
    noisy.step(np.full(20_000, 0.5, np.float32))
    assert (recorder.taken[0] != first).mean() > 0.99
    # What else draws from a generator of the seed alone must not be the noise in disguise.
    same = np.random.default_rng(3).standard_normal(20_000)
    assert abs(np.corrcoef(same, first)[0, 1]) < 0.05


def test_an_episode_keeps_the_actions_that_were_chosen_and_not_the_noisy_ones():
    settings = {"profile": "fast", "episode_steps": 6}
    episodes = []
    for task in ("dmc/walker_walk", "dmc/walker_walk+noise=1"):
        with EnvironmentPool(task, **settings) as pool:
            assert pool.spec.task == task
            episodes.append(pool.submit(5, RandomPolicy(6)).result())
    plain, noisy = episodes
    np.testing.assert_array_equal(plain.action, noisy.action)
    np.testing.assert_array_equal(plain.extras["state"][0], noisy.extras["state"][0])
    assert (plain.extras["state"][1:] != noisy.extras["state"][1:]).any(axis=1).all()


def test_a_sparse_reward_is_500_at_success_and_nothing_else():
    sparse = SparseReward(Recorder(1))
    rewards = [sparse.reset(0).reward, *(sparse.step(np.zeros(1)).reward for _ in range(3))]
    assert rewards[1:] == [0.0, 500.0, 0.0]


def test_meta_worlds_sparse_task_says_the_same_but_for_the_reward():
    dense, sparse = (
        make_environment(name, profile="fast", image_size=8) for name in (DOOR, f"{DOOR}+sparse")
    )
    here, there = dense.reset(1), sparse.reset(1)
    here, there = dense.step(np.ones(4)), sparse.step(np.ones(4))
    np.testing.assert_array_equal(here.extras["state"], there.extras["state"])
    assert here.reward > 0 and there.reward == 0.0
    dense.close(), sparse.close()


def test_gymnasiums_pendulum_comes_in_through_one_function():
    with EnvironmentPool(PENDULUM, image_size=32, workers=2) as pool:
        assert (pool.spec.task, pool.spec.action_size) == (PENDULUM, 1)
        assert pool.spec.state_size == 3
        assert (pool.spec.episode_steps, pool.spec.action_repeat) == (200, 1)
        first, second, again = pool.map([3, 4, 3], RandomPolicy(1))
    np.testing.assert_array_equal(first.image, again.image)
    assert (first.extras["state"][0] != second.extras["state"][0]).any()
    assert first.image.shape == (201, 32, 32, 3)
    assert len(np.unique(first.image[-1].reshape(-1, 3), axis=0)) > 10  # something is drawn
    theirs = gymnasium.make("Pendulum-v1")
    state, _ = theirs.reset(seed=3)
    np.testing.assert_array_equal(first.extras["state"][0], state)
    for row in range(1, 201):
        state, reward, _, _, _ = theirs.step(2.0 * first.action[row])  # torques of -2 to 2
        np.testing.assert_array_equal(first.extras["state"][row], state)
        assert first.reward[row] == np.float32(reward)
    theirs.close()
    assert not first.extras["is_terminal"].any()  # its time limit is no end of the task
    assert first.extras["is_last"][-1]


def test_a_dm_env_comes_in_from_a_users_file(tmp_path, monkeypatch):
    (tmp_path / "users_cup.py").write_text(CUP)
    monkeypatch.syspath_prepend(tmp_path)
    with EnvironmentPool("users_cup:cup", episode_steps=5) as pool:
        episodes = list(pool.map([7, 8, 7], RandomPolicy(2)))
        assert (pool.spec.action_size, pool.spec.action_repeat) == (2, 4)
        assert pool.spec.state_size == 8
    np.testing.assert_array_equal(episodes[0].image, episodes[2].image)
    from dm_control import suite

    theirs = suite.load("ball_in_cup", "catch", task_kwargs={"random": 7})
    theirs.reset()
    for row in range(1, 6):
        total = 0.0
        for _ in range(4):
            inner = theirs.step(episodes[0].action[row])
            total += inner.reward
        flat = np.concatenate([np.ravel(part) for part in inner.observation.values()])
        np.testing.assert_array_equal(episodes[0].extras["state"][row], flat.astype(np.float32))
        assert episodes[0].reward[row] == np.float32(total)
    assert (episodes[0].extras["state"][0] != episodes[1].extras["state"][0]).any()


def test_an_environment_that_does_not_fit_is_refused(monkeypatch):
    request = Request("users:task", "fast", 64, None, None)
    discrete = gymnasium.make("CartPole-v1", render_mode="rgb_array")
    with pytest.raises(ValueError, match="users:task: actions must be a bounded Box, not Discrete"):
        from_gymnasium(discrete, request)
    endless = gymnasium.make("Pendulum-v1", render_mode="rgb_array", max_episode_steps=-1)
    with pytest.raises(ValueError, match="users:task has no time limit: give simulator_steps"):
        from_gymnasium(endless, request)
    repeated = from_gymnasium(endless, request, simulator_steps=9, action_repeat=3)
    assert repeated.spec.episode_steps == 3
    theirs = gymnasium.make("Pendulum-v1")
    theirs.reset(seed=2), repeated.reset(2)
    paid = sum(theirs.step(np.ones(1))[1] for _ in range(3))
    assert repeated.step(np.full(1, 0.5)).reward == pytest.approx(paid)
    unseen = gymnasium.make("Pendulum-v1")
    with pytest.raises(ValueError, match="with render_mode='rgb_array', not None"):
        from_gymnasium(unseen, request)
    grey = gymnasium.make("Pendulum-v1", render_mode="rgb_array")
    wrapped = from_gymnasium(gymnasium.wrappers.AddRenderObservation(grey), request)
    monkeypatch.setattr(wrapped, "_simulator", wrapped._simulator._replace(
        frame=lambda: np.zeros((64, 64, 1), np.uint8)
    ))  # fmt: skip
    with pytest.raises(
        ValueError, match=r"drew uint8 \[64, 64, 1\], but a frame is uint8 \[height"
    ):
        wrapped.reset(0)


def behind(environment, seed):
    """Frames of three env_steps without motors."""
    timesteps = [environment.reset(seed), *(environment.step(np.zeros(6)) for _ in range(2))]
    return np.stack([timestep.image for timestep in timesteps])


@pytest.mark.parametrize("profile", ["fast", "full"])
def test_a_generated_background_moves_behind_the_body_and_nowhere_else(profile):
    plain = make_environment("dmc/walker_walk", profile=profile)
    moving = make_environment("dmc/walker_walk+background", profile=profile)
    body, drawn, again, other = (
        behind(environment, seed)
        for environment, seed in ((plain, 2), (moving, 2), (moving, 2), (moving, 3))
    )
    np.testing.assert_array_equal(drawn, again)
    kept = (drawn == body).all(axis=-1)
    orange = body[..., 0].astype(int) > body[..., 2] + 60
    assert kept[orange].mean() > 0.98  # up to the shaded rim of the body
    assert kept[~orange].mean() < 0.05
    corners = drawn[:, [0, 0, -1, -1], [0, -1, 0, -1]].astype(int)  # sky and ground
    assert (corners[0] != corners[1]).any(axis=-1).all()
    assert np.abs(np.diff(drawn[0, 0].astype(int), axis=0)).max() < 60  # smooth
    assert (other[0, 0] != drawn[0, 0]).mean() > 0.9
    plain.close(), moving.close()


def test_a_users_clips_play_in_order_and_begin_again(tmp_path):
    """Grey values tell clip and frame: 10, 20, 30 are stills of a folder, 100, 110 a GIF."""
    (tmp_path / "street").mkdir()
    for grey in (30, 10, 20):
        Image.new("RGB", (40, 30), (grey,) * 3).save(tmp_path / "street" / f"{grey}.png")
    first, second = (Image.new("RGB", (30, 40), (grey,) * 3) for grey in (100, 110))
    first.save(tmp_path / "loop.gif", save_all=True, append_images=[second])
    background = Background(str(tmp_path), 8)
    seen = set()
    for seed in range(30):
        background.begin(seed)
        frames = [background.frame(step) for step in range(6)]
        assert all(frame.shape == (8, 8, 3) and frame.dtype == np.uint8 for frame in frames)
        greys = [int(frame[0, 0, 0]) for frame in frames]
        assert frames[0].min() == frames[0].max() == greys[0]
        order = [100, 110] if greys[0] >= 100 else [10, 20, 30]
        start = order.index(greys[0])
        assert greys == [order[(start + step) % len(order)] for step in range(6)]
        seen.add(greys[0])
    assert seen == {10, 20, 30, 100, 110}


def test_a_folder_that_cannot_be_shown_is_refused(tmp_path):
    with pytest.raises(ValueError, match="nowhere is no folder"):
        Background(str(tmp_path / "nowhere"), 8)
    with pytest.raises(ValueError, match="holds no pictures"):
        Background(str(tmp_path), 8)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"broken\.png cannot be read as pictures"):
        Background(str(tmp_path), 8)
    (tmp_path / "also").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "also" / "good.png")
    with pytest.raises(ValueError, match=r"broken\.png cannot be read as pictures"):
        Background(str(tmp_path), 8)  # before an episode draws it
    (tmp_path / "broken.png").rename(tmp_path / "broken.mp4")
    with pytest.raises(ValueError, match=r"broken\.mp4 cannot be read as pictures"):
        Background(str(tmp_path), 8)


def test_a_users_video_plays(tmp_path):
    """Twelve frames, each brighter than the last, through a lossy codec."""
    with av.open(str(tmp_path / "film.mp4"), "w") as film:
        stream = film.add_stream("mpeg4", rate=20)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for index in range(12):
            picture = np.full((32, 48, 3), 20 * index, np.uint8)
            film.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        film.mux(stream.encode())
    background = Background(str(tmp_path), 16)
    background.begin(4)
    greys = [background.frame(step).astype(int) for step in range(12)]
    assert all(frame.shape == (16, 16, 3) for frame in greys)
    start = round(greys[0].mean() / 20)
    for step, frame in enumerate(greys):
        assert abs(frame - 20 * ((start + step) % 12)).max() < 8


def test_the_measured_rate_is_that_of_delivered_steps():
    figures = measure("dmc/walker_walk", 1, seconds=0.5, rounds=1)
    assert set(figures) == {
        "task",
        "workers",
        "env_steps_per_second",
        "full_env_steps_per_second",
        "fast_over_full",
    }
    assert figures["env_steps_per_second"] > 2 * figures["full_env_steps_per_second"] > 2
    with pytest.raises(WorkerFailed, match="holds no pictures|is no folder"):
        measure("dmc/walker_walk+background=nowhere", 1, seconds=0.1, rounds=1)
