"""Real Meta-World and RoboDesk in this process: frames, seeds, rewards, faults that are kept."""

import numpy as np
import PIL.Image
import pytest

from coworld_jax.envs import TASKS, make_environment
from coworld_jax.envs.graphics import choose_backend

DOOR, GREEN = "metaworld/door-close", "robodesk/push_green"
BLOCK = "robodesk/upright_block_off_table"


@pytest.fixture(scope="module")
def environments():
    """One environment for each task and profile that is asked for, all closed at the end."""
    made = {}

    def get(task, profile="fast"):
        if (task, profile) not in made:
            made[task, profile] = make_environment(task, profile=profile)
        return made[task, profile]

    yield get
    for environment in made.values():
        environment.close()


def actions(environment, count, seed=0):
    generator = np.random.default_rng(seed)
    return generator.uniform(-1, 1, (count, environment.spec.action_size)).astype(np.float32)


def rollout(environment, seed, acts):
    return [environment.reset(seed), *(environment.step(act) for act in acts)]


def test_the_suites_name_every_task_of_their_packages():
    choose_backend()
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS
    from robodesk import RoboDesk

    theirs = {f"metaworld/{name.removesuffix('-v3')}" for name in ALL_V3_ENVIRONMENTS}
    desk = RoboDesk()
    theirs |= {f"robodesk/{name}" for name in desk.all_tasks}
    desk.physics.free()
    desk.physics_copy.free()
    assert {task for task in TASKS if not task.startswith(("dmc/", "planar/"))} == theirs
    assert len(theirs) == 50 + 18


@pytest.mark.parametrize("task, action_size, state_size", [(DOOR, 4, 39), (GREEN, 5, 76)])
def test_defaults_are_the_authors(task, action_size, state_size, environments):
    environment = environments(task)
    spec = environment.spec
    assert (spec.action_size, spec.action_repeat, spec.episode_steps) == (action_size, 1, 500)
    assert spec.task == task
    assert {"mujoco": "3.3.0"}.items() <= spec.versions.items()
    timestep = environment.reset(1)
    assert (timestep.image.shape, timestep.image.dtype) == ((64, 64, 3), np.uint8)
    assert timestep.extras["state"].shape == (state_size,) == (spec.state_size,)
    assert timestep.extras["state"].dtype == np.float32
    assert (timestep.extras["success"].shape, timestep.extras["success"].dtype) == ((), bool)


@pytest.mark.parametrize("task", [DOOR, GREEN])
def test_an_episode_is_decided_by_its_seed(task, environments):
    environment = environments(task)
    acts = actions(environment, 6)
    before = np.random.get_state()[1].copy()  # noqa: NPY002  # RoboDesk draws from it
    once = rollout(environment, 5, acts)
    rollout(environment, 6, actions(environment, 30, seed=1))  # leaves no trace
    again = rollout(environment, 5, acts)
    for left, right in zip(once, again, strict=True):
        np.testing.assert_array_equal(left.image, right.image)
        np.testing.assert_array_equal(left.extras["state"], right.extras["state"])
        assert left.reward == right.reward
    other = environment.reset(6)
    assert (other.extras["state"] != once[0].extras["state"]).any()
    assert (other.image != once[0].image).any()
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_meta_worlds_objects_move_between_seeds_and_not_only_once(environments):
    # Columns 4 to 6 are the object's position; a frozen random vector would repeat the first.
    seeds = (0, 1, 1000, 2**32 - 1)
    places = {tuple(environments(DOOR).reset(seed).extras["state"][4:7]) for seed in seeds}
    assert len(places) == 4


def test_meta_worlds_frames_are_upright_and_mirrored(environments):
    red, green, blue = np.moveaxis(environments(DOOR).reset(1).image.astype(int), -1, 0)
    assert (red + green + blue)[:4].max() == 0  # black above: this profile has no skybox
    arm = (red > 100) & (green < 70) & (blue < 70)
    rows, columns = np.nonzero(arm)
    assert arm.sum() > 200
    assert columns[rows > 40].mean() < 15  # the red robot stands at the left
    table = (red > green + 15) & (green > blue) & (blue > 50)
    assert np.nonzero(table)[0].mean() > 40  # the wooden table lies below


def test_meta_world_pays_what_its_own_simulator_pays(environments):
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE

    theirs = ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE["door-close-v3-goal-observable"](seed=0)
    theirs._freeze_rand_vec, theirs.seeded_rand_vec = False, True
    theirs.seed(4)
    state, _ = theirs.reset()
    ours = environments(DOOR)
    np.testing.assert_array_equal(ours.reset(4).extras["state"], state.astype(np.float32))
    for act in actions(ours, 10):
        state, reward, _, _, facts = theirs.step(act)
        mine = ours.step(act)
        assert mine.reward == reward
        np.testing.assert_array_equal(mine.extras["state"], state.astype(np.float32))
        assert mine.extras["success"] == bool(facts["success"])


def test_meta_worlds_frames_are_the_packages_own_with_their_rows_flipped(environments):
    from gymnasium.envs.mujoco.mujoco_rendering import MujocoRenderer

    ours = environments(DOOR, "full")
    image = ours.reset(3).image
    theirs = MujocoRenderer(
        ours._simulator.model, ours._simulator.data, None, 64, 64, camera_name="corner"
    )
    np.testing.assert_array_equal(image, theirs.render("rgb_array")[::-1])
    theirs.close()


def test_success_is_the_door_closed(environments):
    from metaworld.policies import SawyerDoorCloseV3Policy

    environment, expert = environments(DOOR), SawyerDoorCloseV3Policy()
    timestep = environment.reset(3)
    for _ in range(150):
        assert not timestep.extras["success"]
        act = expert.get_action(timestep.extras["state"].astype(np.float64))
        timestep = environment.step(np.asarray(act, np.float32))
        if timestep.extras["success"]:
            break
    assert timestep.extras["success"] and timestep.reward > 5


def test_meta_worlds_episodes_end_before_its_simulator_refuses():
    environment = make_environment(DOOR, profile="fast", image_size=8, action_repeat=100)
    timesteps = rollout(environment, 1, actions(environment, 5))
    assert [(step.is_last, step.discount) for step in timesteps] == [(False, 1)] * 5 + [(True, 1)]
    with pytest.raises(RuntimeError, match="reset"):
        environment.step(actions(environment, 1)[0])
    environment.close()
    with pytest.raises(ValueError, match="ends after 500 simulator steps: 501"):
        make_environment(DOOR, profile="fast", episode_steps=501)


@pytest.mark.parametrize("task", [DOOR, GREEN])
def test_a_repeat_sums_rewards_and_any_success_counts(task, environments, monkeypatch):
    single, triple = environments(task), make_environment(task, profile="fast", action_repeat=3)
    (act,) = actions(single, 1)
    single.reset(1), triple.reset(1)
    paid = sum(single.step(act).reward for _ in range(3))
    assert triple.step(act).reward == pytest.approx(paid, rel=1e-6)
    met = iter([False, True, False])  # in the middle one of three simulator steps
    if task == DOOR:
        step = triple._simulator.step
        monkeypatch.setattr(
            triple._simulator, "step",
            lambda action: (*step(action)[:4], {"success": float(next(met))}),
        )  # fmt: skip
    else:
        monkeypatch.setattr(
            triple._simulator, "_get_task_reward",
            lambda name, kind: float(next(met)) if kind == "success" else 0.0,
        )  # fmt: skip
    assert triple.step(act).extras["success"]
    triple.close()


def test_robodesk_is_the_packages_own(environments, monkeypatch):
    """Pixels too, although the camera is kept, Pillow's filter renamed and gym old."""
    choose_backend()
    from robodesk import RoboDesk

    monkeypatch.setattr(PIL.Image, "ANTIALIAS", PIL.Image.Resampling.LANCZOS, raising=False)
    theirs = RoboDesk(task="push_green")
    np.random.seed(4)  # noqa: NPY002
    ours = environments(GREEN, "full")
    np.testing.assert_array_equal(ours.reset(4).image, theirs.reset()["image"])
    act = actions(ours, 1)[0]
    seen, reward, _, _ = theirs.step(act)
    mine = ours.step(act)
    assert mine.reward == reward > 0
    np.testing.assert_array_equal(mine.image, seen["image"])
    np.testing.assert_array_equal(mine.extras["state"][:9], seen["qpos_robot"].astype(np.float32))
    theirs.physics.free()
    theirs.physics_copy.free()


def drop_the_block(environment):
    """The upright block falls to the floor at once; what that pays."""
    environment.reset(1)
    physics = environment._physics
    physics.named.data.qpos["upright_block"][:3] = [0.6, 0.3, 0.3]
    physics.forward()
    return environment.step(np.zeros(5, np.float32))


def test_robodesks_fault_is_kept_unless_the_name_says_otherwise(environments):
    kept, corrected = environments(BLOCK), environments(f"{BLOCK}+corrected")
    assert corrected.spec.task == f"{BLOCK}+corrected"
    assert not kept.reset(1).extras["success"]
    assert not kept.step(np.zeros(5, np.float32)).extras["success"]  # it still stands
    fallen = drop_the_block(kept)
    assert fallen.reward < 0.41
    assert fallen.extras["success"]  # its own, of the block's height, is right all the same
    # 0.75 * 0.8 * the share of its height that the block has lost comes on top.
    assert drop_the_block(corrected).reward > fallen.reward + 0.3


def test_what_is_left_out_beside_the_frame_changes_no_pixel(environments):
    environment = environments(GREEN)
    acts = np.tile(np.float32([0, -1, 1, 0, 0]), (12, 1))  # towards the edge
    culled = rollout(environment, 2, acts)
    model, groups = environment._physics.model, environment._culling._groups
    assert (np.array(model.geom_group) != groups).sum() >= 3  # the arm's foot, at least
    allowed = environment._culling._profile
    environment._culling._profile = allowed._replace(culled=False)
    model.geom_group[:] = groups
    whole = rollout(environment, 2, acts)
    environment._culling._profile = allowed
    for left, right in zip(culled, whole, strict=True):
        np.testing.assert_array_equal(left.image, right.image)


@pytest.mark.parametrize("task", [DOOR, GREEN])
def test_profiles_differ_and_show_the_same_scene(task, environments):
    frames = [
        environments(task, profile).reset(2).image.astype(float) for profile in ("full", "fast")
    ]
    assert np.abs(frames[0] - frames[1]).mean() > 2
    lower = [frame[32:].ravel() for frame in frames]
    assert np.corrcoef(*lower)[0, 1] > 0.6
