"""Real dm_control in this process: worlds, frames, seeds, rewards, and what broken set-ups say."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from coworld_jax.envs import PROFILES, TASKS, VersionError, episode_seed, make_environment
from coworld_jax.envs.background import Background
from coworld_jax.envs.versions import TESTED, explained

# task: gravity, Euler angles of the camera, half-length of the ground, (geom, its radius)
WORLDS = {
    "dmc/walker_walk": ((0, 0, -9.81), (60, 0), 250, ("right_foot", 0.05)),
    "dmc/walker_downhill": ((2.54, 0, -9.47), (60, 15), 1000, ("right_foot", 0.05)),
    "dmc/walker_uphill": ((-2.54, 0, -9.47), (60, -15), 1000, ("right_foot", 0.05)),
    "dmc/walker_nofoot": ((0, 0, -9.81), (60, 0), 1000, ("right_foot", 0.001)),
    "dmc/cheetah_run": ((0, 0, -9.81), (90, 0), 100, ("ffoot", 0.046)),
    "dmc/cheetah_downhill": ((2.54, 0, -9.47), (90, 15), 1000, ("ffoot", 0.046)),
    "dmc/cheetah_uphill": ((-2.54, 0, -9.47), (90, -15), 1000, ("ffoot", 0.046)),
    "dmc/cheetah_nopaw": ((0, 0, -9.81), (90, 0), 1000, ("ffoot", 0.001)),
}


def actions(count, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, 6)).astype(np.float32)


def rollout(environment, seed, acts):
    return [environment.reset(seed), *(environment.step(act) for act in acts)]


@pytest.fixture
def make():
    """make_environment that closes what it made."""
    made = []

    def build(task, **arguments):
        made.append(make_environment(task, **{"profile": "fast", **arguments}))
        return made[-1]

    yield build
    for environment in made:
        environment.close()


@pytest.fixture(scope="module")
def walker():
    environment = make_environment("dmc/walker_walk", profile="fast", episode_steps=8)
    yield environment
    environment.close()


def test_the_table_names_the_papers_eight_tasks():
    assert {task for task in TASKS if task.startswith("dmc/")} == set(WORLDS)


@pytest.mark.parametrize("task", WORLDS)
def test_a_world_has_the_stated_gravity_camera_ground_and_foot(task, make):
    gravity, (tilt, roll), half_length, (geom, radius) = WORLDS[task]
    environment = make(task, image_size=16)
    model = environment._physics.model
    np.testing.assert_allclose(model.opt.gravity, gravity)
    a, c = np.deg2rad(tilt) / 2, np.deg2rad(roll) / 2
    # Rotation about x, then about the new z: (cos a + i sin a)(cos c + k sin c).
    turn = [np.cos(a) * np.cos(c), np.sin(a) * np.cos(c), -np.sin(a) * np.sin(c)]
    turn.append(np.cos(a) * np.sin(c))
    np.testing.assert_allclose(model.cam_quat[model.name2id("side", "camera")], turn, atol=1e-3)
    (ground,) = np.flatnonzero(model.geom_type == 0)
    assert model.geom_size[ground, 0] == half_length
    assert model.geom_size[model.name2id(geom, "geom"), 0] == pytest.approx(radius)
    assert environment.spec.action_size == 6
    assert environment.spec.task == task


@pytest.mark.parametrize("domain, task", [("walker", "walk"), ("cheetah", "run")])
def test_published_tasks_are_dm_controls_own(domain, task, make):
    from dm_control import suite

    theirs = suite.load(domain, task, task_kwargs={"random": 11})
    first = theirs.reset()
    ours = make(f"dmc/{domain}_{task}", image_size=16)
    mine = ours.reset(11)
    flat = np.concatenate([np.ravel(part) for part in first.observation.values()])
    np.testing.assert_array_equal(mine.extras["state"], flat.astype(np.float32))
    for act in actions(20):
        pair = [theirs.step(act), theirs.step(act)]
        mine = ours.step(act)
        assert mine.reward == pair[0].reward + pair[1].reward
        flat = np.concatenate([np.ravel(part) for part in pair[1].observation.values()])
        np.testing.assert_array_equal(mine.extras["state"], flat.astype(np.float32))


@pytest.mark.parametrize("domain", ["walker", "cheetah"])
def test_downhill_pulls_forward_and_uphill_back(domain, make):
    def drift(slope):
        environment = make(f"dmc/{domain}_{slope}", image_size=16)
        rollout(environment, 3, np.zeros((15, 6)))
        return environment._physics.named.data.subtree_com["torso", "x"]

    assert drift("downhill") > drift("uphill") + 0.1  # metres, after 0.75 s or 0.3 s


def test_frames_are_upright_and_neither_dark_nor_pale(make):
    environment = make("dmc/walker_walk")
    image = rollout(environment, 1, actions(15))[-1].image.astype(int)
    assert image.shape == (64, 64, 3)
    red, _, blue = np.moveaxis(image, -1, 0)
    assert image[:8].max() == 0  # no skybox in this profile: black above
    assert (blue[-8:] > red[-8:]).all()  # the blue ground below
    body = red > blue + 20
    assert 40 < body.sum() < 800  # an orange body in between
    assert 15 < image.mean() < 100


def test_the_slopes_are_seen_as_slopes(make):
    def horizon(slope):
        image = make(f"dmc/cheetah_{slope}").reset(1).image
        ground = image[..., 2] > 0
        return ground[:, 2].argmax(), ground[:, -3].argmax()  # first row of ground, left and right

    left, right = horizon("downhill")
    assert right > left + 5  # row numbers grow downwards: the way forward falls
    left, right = horizon("uphill")
    assert left > right + 5


def test_profiles_draw_the_same_body_with_another_background(make):
    acts = actions(10)
    frames = {
        name: rollout(make("dmc/walker_walk", profile=name), 1, acts)[-1].image.astype(int)
        for name in PROFILES
    }
    assert set(frames) == {"full", "fast"}
    assert (frames["full"][:8] > 0).any(axis=-1).mean() > 0.9  # the skybox
    bodies = [frame[..., 0] > frame[..., 2] + 20 for frame in frames.values()]
    assert (bodies[0] & bodies[1]).sum() / (bodies[0] | bodies[1]).sum() > 0.6
    assert np.abs(frames["full"] - frames["fast"]).mean() > 5


def test_an_episode_is_decided_by_its_seed(walker):
    acts = actions(8)
    once = rollout(walker, 5, acts)
    rollout(walker, 6, actions(3, seed=1))  # an abandoned episode leaves no trace
    again = rollout(walker, 5, acts)
    for left, right in zip(once, again, strict=True):
        np.testing.assert_array_equal(left.image, right.image)
        np.testing.assert_array_equal(left.extras["state"], right.extras["state"])
        assert left.reward == right.reward
    other = walker.reset(6)
    assert (other.extras["state"] != once[0].extras["state"]).any()


def test_a_frame_is_not_overwritten_by_the_next(walker):
    first = walker.reset(5)
    kept = first.image.copy()
    walker.step(actions(1)[0])
    np.testing.assert_array_equal(first.image, kept)


def test_action_repeat_sums_rewards(make):
    acts = actions(4)
    single = make("dmc/walker_walk", action_repeat=1, image_size=16)
    each = rollout(single, 2, np.repeat(acts, 3, axis=0))[1:]
    triple = make("dmc/walker_walk", action_repeat=3, image_size=16)
    summed = rollout(triple, 2, acts)[1:]
    assert triple.spec.episode_steps == 333
    for index, timestep in enumerate(summed):
        part = each[3 * index : 3 * index + 3]
        assert timestep.reward == pytest.approx(sum(inner.reward for inner in part), rel=1e-12)
        np.testing.assert_array_equal(timestep.image, part[-1].image)


def test_actions_beyond_the_range_count_as_its_ends(walker):
    acts = actions(4)
    wide = rollout(walker, 2, np.sign(acts) * 7)[-1]
    ends = rollout(walker, 2, np.sign(acts))[-1]
    np.testing.assert_array_equal(wide.extras["state"], ends.extras["state"])


def test_the_time_limit_ends_an_episode_but_not_its_value(walker):
    timesteps = rollout(walker, 2, actions(8))
    assert [timestep.is_last for timestep in timesteps] == [False] * 8 + [True]
    assert [timestep.discount for timestep in timesteps] == [1.0] * 9
    assert timesteps[0].reward == 0.0
    with pytest.raises(RuntimeError, match="reset"):
        walker.step(actions(1)[0])


def test_a_terminal_state_ends_the_repeat_and_the_value(make, monkeypatch):
    from dm_control.suite import walker as suite

    environment = make("dmc/walker_walk", image_size=16)
    monkeypatch.setattr(
        suite.PlanarWalker,
        "get_termination",
        lambda self, physics: 0.0 if physics.time() > 0.06 else None,
    )
    # 0.025 s each: the third simulator step is the last, in the middle of the second repeat.
    timesteps = rollout(environment, 2, actions(2))
    assert [(step.is_last, step.discount) for step in timesteps[1:]] == [(False, 1), (True, 0)]
    assert environment._physics.time() == pytest.approx(0.075)


def test_defaults_are_the_authors(make):
    spec = make("dmc/cheetah_downhill", image_size=16).spec
    assert (spec.action_repeat, spec.episode_steps, spec.profile) == (2, 500, "fast")
    assert make("dmc/cheetah_downhill").reset(0).extras["state"].shape == (spec.state_size,)
    assert spec.versions == {
        name: importlib.metadata.version(name) for name in ("mujoco", "dm_control")
    }


@pytest.mark.parametrize(
    "task, arguments, sentence",
    [
        ("dmc/walker_wlak", {}, "did you mean 'dmc/walker_walk'"),
        ("walker_walk", {}, "did you mean 'dmc/walker_walk'"),
        ("dmc/walker_walk", {"profile": "quick"}, "No render profile 'quick'; known: full, fast"),
        ("dmc/walker_walk", {"action_repeat": 0}, "action_repeat of dmc/walker_walk must be"),
        ("dmc/walker_walk", {"episode_steps": -1}, "episode_steps of dmc/walker_walk must be"),
    ],
)
def test_bad_requests_are_refused_in_one_sentence(task, arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        make_environment(task, **arguments)


def test_episode_seeds_are_fixed_and_apart():
    # Pinned: a change of the formula, or a hash that differs between processes, changes old runs.
    assert [episode_seed(0, "source/replay", index) for index in range(2)] == [
        1978416135,
        3008352449,
    ]
    seeds = {
        episode_seed(seed, stream, index)
        for seed in range(5)
        for stream in ("train", "eval")
        for index in range(50)
    }
    assert len(seeds) == 500
    assert all(0 <= seed < 2**32 for seed in seeds)
    with pytest.raises(ValueError, match="start at 0"):
        episode_seed(0, "train", -1)


def test_the_blamed_versions_are_the_pinned_ones():
    pins = (Path(__file__).parents[1] / "constraints.txt").read_text().splitlines()
    for name, version in TESTED.items():
        assert f"{name.replace('_', '-')}=={version}" in [pin.split("#")[0].strip() for pin in pins]


def test_a_failure_with_foreign_versions_names_them(monkeypatch):
    monkeypatch.setitem(TESTED, "mujoco", "1.2.3")
    with (
        pytest.raises(VersionError, match=r"mujoco 3\S+ \(tested: 1\.2\.3\), AttributeError: eq"),
        explained(["mujoco", "dm_control"]),
    ):
        raise AttributeError("eq_data")


def test_a_failure_with_the_tested_versions_is_not_blamed_on_them(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", TESTED.__getitem__)
    with pytest.raises(AttributeError, match="eq_data"), explained(["mujoco", "dm_control"]):
        raise AttributeError("eq_data")


def test_a_mistake_of_the_user_is_not_blamed_on_foreign_versions(monkeypatch, tmp_path):
    monkeypatch.setitem(TESTED, "mujoco", "1.2.3")
    with pytest.raises(ValueError, match="none"), explained(["mujoco"]):
        Background(str(tmp_path / "none"), 64)


def test_a_missing_package_is_named_with_its_pin(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    sentence = r"mujoco is not installed: pip install mujoco==3\.\S+ dm_control==1\."
    with pytest.raises(VersionError, match=sentence), explained(["mujoco", "dm_control"]):
        pass


def probe(**environment: str) -> subprocess.CompletedProcess[str]:
    """The probe as a user runs it, with nothing known beforehand."""
    clean = {key: value for key, value in os.environ.items() if not key.endswith("_GL")}
    return subprocess.run(
        [sys.executable, "-m", "coworld_jax.envs.probe"],
        env={**clean, "PYTHONPATH": str(Path(__file__).parents[1]), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_probe_prints_what_renders():
    done = probe()
    assert done.stdout.strip() in ("egl", "osmesa"), done.stderr
    assert (done.returncode, done.stderr) == (0, "")


def test_the_probe_blames_a_foreign_version_and_not_the_graphics(tmp_path):
    root = Path(__file__).parents[1]
    (tmp_path / "mujoco").mkdir()
    (tmp_path / "mujoco" / "__init__.py").write_text("raise AttributeError('flex_vertedge')")
    (tmp_path / "mujoco-9.0.0.dist-info").mkdir()
    metadata = "Metadata-Version: 2.1\nName: mujoco\nVersion: 9.0.0\n"
    (tmp_path / "mujoco-9.0.0.dist-info" / "METADATA").write_text(metadata)
    done = probe(PYTHONPATH=f"{tmp_path}{os.pathsep}{root}", MUJOCO_GL="egl")
    assert done.returncode == 1
    assert done.stderr.startswith("The simulator does not work with mujoco 9.0.0 (tested: 3.")
    assert "flex_vertedge" in done.stderr
    assert len(done.stderr.splitlines()) == 1
