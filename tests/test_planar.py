"""The planar suite: its physics against its own laws, its pictures against NumPy, its dials."""

import dataclasses
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from planar_controllers import returns

from coworld_jax.envs import TASKS, Request, make_environment
from coworld_jax.envs.jittable import arm, drawing, planar, push
from coworld_jax.envs.jittable.body import WALL, Body
from coworld_jax.envs.jittable.looks import make_look
from coworld_jax.envs.jittable.planar import Dials
from coworld_jax.envs.suites import check_request
from experiments.planar_pages import film, page
from experiments.studies.planar import REFERENCES

PAGE = Path(__file__).resolve().parent.parent / "experiments/results/planar_suite.md"
SCENES = ("planar/arm", "planar/push", "planar/reach")


def make(task, image_size=8):
    return planar.make(Request(task, "full", image_size, None, None))


def frame(task, seed=0, image_size=64):
    environment = make(task, image_size)
    return np.asarray(environment.render(environment.reset(jax.random.key(seed)))).astype(int)


def random_actions(environment, steps=40, seed=0):
    shape = (steps, environment.spec.action_size)
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


@dataclasses.dataclass
class Played:
    """States of an episode, the one of the reset first, with vectors and rewards."""

    states: list
    vectors: np.ndarray
    rewards: np.ndarray


def play(task, actions=None, seed=0, begin=None):
    environment = make(task)
    actions = random_actions(environment) if actions is None else actions
    states = [begin if begin is not None else environment.reset(jax.random.key(seed))]
    step, vector = jax.jit(environment.step), jax.jit(environment.state_vector)
    vectors, rewards = [vector(states[0])], []
    for action in actions:
        state, reward, discount = step(states[-1], jnp.asarray(action))
        assert discount == 1.0
        states.append(state)
        vectors.append(vector(state))
        rewards.append(float(reward))
    return Played(states, np.stack(vectors), np.array(rewards))


# --- what the tasks are ---------------------------------------------------------------------------


def test_every_name_can_be_made_and_has_the_stated_sizes():
    sizes = {}
    for name in planar.tasks():
        assert f"planar/{name}" in TASKS
        spec = make(str(check_request(Request(f"planar/{name}", "fast", 8, None, None)).task)).spec
        assert (spec.episode_steps, spec.action_repeat, spec.task) == (100, 1, f"planar/{name}")
        sizes[name] = (spec.action_size, spec.state_size)
    scenes = {"arm": (2, 11), "push": (3, 10), "reach": (3, 6)}
    desks = {"arm_desk": (3, 14), "push_desk": (4, 10), "reach_desk": (4, 6)}
    usual = {name: scenes[name.split("_")[0]] for name in sizes}
    assert sizes == usual | desks


def test_the_page_has_the_dials_of_the_docstring_and_the_returns_of_the_studies():
    page = PAGE.read_text()
    rows = {line.replace("``", "`") for line in planar.__doc__.splitlines() if line.count("|") == 5}
    assert len(rows) == 19 and not rows - set(page.splitlines())
    found = re.findall(r"^\| `(\w+)` \| (-?[\d.]+) \[.*?\] \| ([\d.]+) \[", page, re.MULTILINE)
    assert {name: (float(low), float(high)) for name, low, high in found} == REFERENCES


def test_both_profiles_draw_the_same_and_have_one_name():
    assert {make("planar/reach").spec.profile, make("planar/arm").spec.profile} == {"fast"}


def test_an_option_replaces_that_of_the_variant():
    task = planar.parse_task("planar/reach_downhill+gravity=-2+mirrored")
    assert planar.resolve(task) == ("reach", {"gravity": "-2", "mirrored": ""})
    assert planar.dials(planar.resolve(task)[1]) == Dials(gravity=-2.0, mirrored=True)


@pytest.mark.parametrize(
    "name, sentence",
    [
        ("planar/reech", "No task 'planar/reech'; did you mean 'planar/reach'"),
        ("planar/reach+palette=mauve", "no palette 'mauve'; known: day, night, desk"),
        ("planar/reach+texture=fur", "no texture 'fur'; known: plain, checks"),
        ("planar/reach+goal=ring", "planar/reach has no goal 'ring'; known: body"),
        ("planar/reach+dead=3", "has 3 limbs, counted from 0: there is no limb 3 that could be"),
        ("planar/arm+dead=-1", "dead=-1 is no whole number from 0 on"),
        ("planar/arm+delay=0", "delay=0 is no whole number from 1 on"),
        ("planar/arm+camera=left", "camera=left is no number from -1e6 to 1e6, for example -0.5"),
        ("planar/arm+zoom=-1", "zoom=-1 is no number from 1e-6 to 1e6"),
        ("planar/arm+background=films", "one moving background, without files"),
        ("planar/arm+background+texture=checks", r"\+background covers the ground"),
        ("planar/arm+corrected", "planar/arm has no option corrected"),
        ("dmc/walker_walk+camera=30", "dmc/walker_walk has no option camera"),
    ],
)
def test_bad_names_are_refused_in_one_sentence(name, sentence):
    with pytest.raises(ValueError, match=sentence):
        make_environment(name)


@pytest.mark.parametrize("task, least", [("arm", 85.0), ("push", 75.0), ("reach", 90.0)])
def test_a_scripted_controller_gets_much_more_than_random_play(task, least):
    random, scripted = returns(f"planar/{task}", calls=1)
    assert scripted.mean() > least and scripted.min() > 50.0
    assert random.mean() < 0.6 * scripted.mean()


# --- physics --------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["planar/reach+gravity=2", "planar/reach+gravity=-1+damping=0.2"])
def test_a_body_without_thrust_gains_no_energy(task):
    environment = make(task)
    start = environment.reset(jax.random.key(1))
    start = start._replace(body=start.body._replace(velocity=jnp.array([2.0, 1.5])))
    body = [s.body for s in play(task, np.zeros((60, 3)), begin=start).states]
    gravity = planar.dials(planar.resolve(planar.parse_task(task))[1]).gravity
    energy = [float((b.velocity**2).sum() / 2 + gravity * b.position[1]) for b in body]
    assert np.all(np.diff(energy) <= 1e-6) and energy[-1] < energy[0] - 0.5
    assert abs(body[-1].position).max() <= WALL


def height(angle):
    """Sum of the heights of the links' middles."""
    ends = arm.link_ends(angle)[:, 1]
    return jnp.sum(ends[1:] + ends[:-1]) / 2


def test_an_arm_without_drive_gains_no_energy_and_comes_to_hang():
    states = play("planar/arm+gravity=4", np.zeros((120, 2)), seed=2).states
    energy = [float((s.speed**2).sum() / 2 + 4 * height(s.angle)) for s in states]
    assert np.all(np.diff(energy) <= 1e-5)
    np.testing.assert_allclose(arm.link_ends(states[-1].angle)[-1], [0.0, -1.0], atol=0.05)


def test_the_lever_of_a_joint_is_the_slope_of_the_height():
    angle = jnp.array([0.4, -1.3, 2.0])
    np.testing.assert_allclose(arm._lever(angle), jax.grad(height)(angle), atol=1e-6)


def test_the_ring_rests_until_it_is_touched_and_then_goes_along():
    environment = make("planar/push+gravity=3.6")
    start = environment.reset(jax.random.key(0))
    begin = start._replace(
        body=Body(jnp.array([-0.2, 0.1]), jnp.zeros(2)),
        ring=Body(jnp.array([0.0, 0.0]), jnp.zeros(2)),
    )
    # To the right and up, against the slope: the first thruster pushes up, the third down right.
    actions = np.tile(np.float32([0.9, -0.8, 0.8]), (25, 1))
    states = play("planar/push+gravity=3.6", actions, begin=begin).states
    apart = np.array([float(push.middle_distance(s)) for s in states])
    rings = np.stack([s.ring.position for s in states])
    first = int((apart > push.SLACK - 1e-3).argmax())
    assert 1 < first < 15
    assert (rings[:first] == 0.0).all()
    assert rings[-1][0] > 0.2
    assert apart.max() < push.SLACK + 1e-5  # the body stays inside


def test_the_body_cannot_leave_a_ring_that_a_wall_holds():
    actions = np.tile(np.float32([0.0, -1.0, 1.0]), (60, 1))  # to the right
    states = play("planar/push", actions, seed=1).states
    right = np.array([[s.ring.position[0], s.body.position[0]] for s in states])
    assert right[-1, 0] == right[:, 0].max() and right[-1, 0] == right[-9, 0]
    np.testing.assert_allclose(right[-1, 1] - right[-1, 0], push.SLACK, atol=1e-2)


def test_a_collision_keeps_momentum_and_gains_no_energy():
    ring = Body(jnp.array([0.0, 0.1]), jnp.array([-0.2, 0.0]))
    body = Body(ring.position + jnp.array([push.SLACK, 0.05]), jnp.array([1.0, 0.3]))
    after = push.collide(body, ring)
    total = body.velocity + ring.velocity
    np.testing.assert_allclose(after[0].velocity + after[1].velocity, total, atol=1e-6)

    def energy(pair):
        return float(sum((one.velocity**2).sum() for one in pair))

    assert energy(after) < energy((body, ring)) - 0.1
    normal = (body.position - ring.position) / np.linalg.norm(body.position - ring.position)
    np.testing.assert_allclose((after[0].velocity - after[1].velocity) @ normal, 0.0, atol=1e-6)


@pytest.mark.parametrize("task", SCENES)
def test_a_dead_limb_does_nothing_and_its_absence_is_seen(task):
    environment = make(f"{task}+dead=1")
    actions = random_actions(environment)
    changed = actions.copy()
    changed[:, 1] *= -1
    one, other = play(f"{task}+dead=1", actions), play(f"{task}+dead=1", changed)
    np.testing.assert_array_equal(one.vectors, other.vectors)
    alive = play(task, changed)
    assert abs(one.vectors - alive.vectors).max() > 0.05
    assert (frame(f"{task}+dead=1") != frame(task)).any()


@pytest.mark.parametrize("task", ["planar/reach", "planar/arm+dead=0"])
def test_a_delay_delays(task):
    actions = random_actions(make(task))
    late = play(f"{task}+delay=2", actions)
    delayed = np.concatenate([np.zeros_like(actions[:2]), actions[:-2]])
    at_once = play(task, delayed)
    np.testing.assert_array_equal(late.vectors, at_once.vectors)
    assert (late.rewards == at_once.rewards).all()


def test_gravity_gain_and_damping_do_what_they_say():
    def end(options, action=(0.0, 0.0, 0.0)):
        begin = make("planar/reach").reset(jax.random.key(0))
        begin = begin._replace(body=Body(jnp.zeros(2), jnp.zeros(2)))
        actions = np.tile(np.float32(action), (5, 1))
        return play(f"planar/reach{options}", actions, begin=begin).vectors[-1, :2]

    up = (1.0, 0.0, 0.0)
    assert end("+gravity=1")[1] < -0.05 and end("+gravity=-1")[1] > 0.05
    np.testing.assert_allclose(end("+gain=2", up), 2 * end("", up), rtol=1e-5)
    assert end("+damping=3", up)[1] < 0.7 * end("", up)[1]
    right = play("planar/reach+extra", np.tile(np.float32([0, 0, 0, 1]), (5, 1))).vectors
    assert right[-1, 0] > right[0, 0] + 0.1 and right[-1, 1] == right[0, 1]


def test_reward_and_success_are_those_of_the_distance():
    played = play("planar/reach")
    distance = np.linalg.norm(played.vectors[1:, :2] - played.vectors[1:, 4:], axis=1)
    np.testing.assert_allclose(played.rewards, 1 - distance / 1.2, atol=1e-6)
    np.testing.assert_allclose(play("planar/reach+reward=0.1").rewards, played.rewards / 10)
    environment = make("planar/reach")
    near = environment.reset(jax.random.key(0))
    near = near._replace(place=near.body.position + jnp.array([0.1, 0.0]))
    still = np.zeros((1, 3))
    assert play("planar/reach+sparse+reward=2", still, begin=near).rewards == [1000.0]
    away = near._replace(place=near.body.position + jnp.array([0.2, 0.0]))
    assert play("planar/reach+sparse+reward=2", still, begin=away).rewards == [0.0]
    assert environment.success(near) and not environment.success(away)


@pytest.mark.parametrize("scene", ["arm+goal=still", "push", "reach"])
def test_the_place_is_the_same_in_every_episode_unless_it_may_be_anywhere(scene):
    def places(task):
        environment = make(task)
        vectors = [environment.state_vector(environment.reset(jax.random.key(i))) for i in range(3)]
        where = slice(-3, -1) if scene.startswith("arm") else slice(-2, None)
        return len({tuple(np.asarray(vector[where]).tolist()) for vector in vectors})

    assert places(f"planar/{scene}") == 1
    assert places(f"planar/{scene}+anywhere") == 3


def test_goals_change_the_reward_and_nothing_else():
    goals = ("", "+goal=body", "+goal=middle")
    ring, body, middle = (play(f"planar/push{goal}") for goal in goals)
    np.testing.assert_array_equal(ring.vectors, body.vectors)
    np.testing.assert_array_equal(ring.vectors, middle.vectors)
    body_place = np.linalg.norm(body.vectors[1:, :2] - body.vectors[1:, 8:], axis=1)
    np.testing.assert_allclose(body.rewards, 1 - body_place / 1.2, atol=1e-6)
    apart = np.linalg.norm(body.vectors[1:, :2] - body.vectors[1:, 4:6], axis=1)
    np.testing.assert_allclose(middle.rewards, 1 - apart / push.SLACK, atol=1e-5)
    ring_place = np.linalg.norm(ring.vectors[1:, 4:6] - ring.vectors[1:, 8:], axis=1)
    np.testing.assert_allclose(ring.rewards, 1 - ring_place / 0.6, atol=1e-5)
    place = play("planar/arm").vectors[:, -3:-1]
    assert np.ptp(place, axis=0).max() > 0.1
    assert np.ptp(play("planar/arm_still").vectors[:, -3:-1], axis=0).max() == 0.0


def test_noise_is_decided_by_the_seed_and_leaves_the_start_alone():
    once, again, other = (play("planar/reach+noise=0.5", seed=seed) for seed in (3, 3, 4))
    quiet = play("planar/reach", seed=3)
    np.testing.assert_array_equal(once.vectors, again.vectors)
    np.testing.assert_array_equal(once.vectors[0], quiet.vectors[0])
    assert abs(once.vectors[1:5, :4] - quiet.vectors[1:5, :4]).min() > 0.0
    difference = np.diff(once.vectors[:, 2]) - np.diff(quiet.vectors[:, 2])
    others = np.diff(other.vectors[:, 2]) - np.diff(play("planar/reach", seed=4).vectors[:, 2])
    assert abs(np.corrcoef(difference, others)[0, 1]) < 0.5


# --- pictures -------------------------------------------------------------------------------------


def test_a_mirrored_camera_mirrors_every_pixel():
    for options in ("", "+camera=25+texture=checks", "+background"):
        for task in SCENES:
            left, right = frame(f"{task}{options}"), frame(f"{task}{options}+mirrored")
            np.testing.assert_array_equal(left, right[:, ::-1])
            assert (left != right).any()


def test_a_camera_turns_and_a_zoom_enlarges():
    upright = frame("planar/push+texture=stripes")
    turned = frame("planar/push+texture=stripes+camera=90")
    assert abs(turned - np.rot90(upright)).max() <= 1
    core = np.array(make_look(Dials(), 64).colours.place_core)

    def area(image):
        return (abs(image - core).sum(-1) < 40).sum()

    assert area(frame("planar/arm+zoom=1.5")) > 1.8 * area(frame("planar/arm"))


def test_shapes_have_the_area_that_they_should():
    view = drawing.make_view(64, degrees=20.0, zoom=1.0, mirrored=False)

    def area(distance):
        black = drawing.Canvas(*[np.zeros((64, 64), np.float32)] * 3)
        red = drawing.paint(black, view, distance, (1.0, 0.0, 0.0)).red
        return float(jnp.sum(red)) / view.per_unit**2

    start, end = jnp.array([-0.5, 0.2]), jnp.array([0.3, -0.1])
    assert area(drawing.disc(view, start, 0.3)) == pytest.approx(np.pi * 0.09, rel=0.01)
    length = float(jnp.linalg.norm(end - start))
    round_line = np.pi * 0.01 + 0.2 * length
    assert area(drawing.capsule(view, start, end, 0.1)) == pytest.approx(round_line, rel=0.02)
    # Two discs that do not meet.
    pair = [drawing.disc(view, start, 0.2), drawing.disc(view, -start, 0.2)]
    assert area(drawing.union(pair)) == pytest.approx(2 * np.pi * 0.04, rel=0.01)


def test_a_picture_is_what_many_samples_of_hard_edges_average_to():
    """The whole picture of ``reach``, drawn by plain NumPy with 64 samples for each pixel."""
    environment = make("planar/reach+dead=2", 64)
    state = environment.reset(jax.random.key(5))
    colours, fine = make_look(Dials(), 64).colours, 8
    axis = ((np.arange(64 * fine) + 0.5) / (64 * fine) * 2 - 1) * drawing.HALF_WIDTH
    x, y = np.meshgrid(axis, -axis)
    image = np.full((*x.shape, 3), colours.ground, np.float64)
    image[np.maximum(abs(x), abs(y)) > 1.2] = colours.around
    body, place = np.asarray(state.body.position), np.asarray(state.place)
    nozzles = [body - 0.26 * np.array([np.cos(a), np.sin(a)]) for a in np.deg2rad([90, 210])]
    for centre, radius, colour in (
        (place, 0.32, colours.place),
        (place, 0.23, colours.place_core),
        (nozzles[0], 0.1, colours.limb),
        (nozzles[1], 0.1, colours.limb),
        (body, 0.24, colours.body),
        (body, 0.12, colours.body_core),
    ):
        image[np.hypot(x - centre[0], y - centre[1]) < radius] = colour
    wanted = image.reshape(64, fine, 64, fine, 3).mean((1, 3))
    drawn = np.asarray(environment.render(state)).astype(float)
    assert abs(drawn - wanted).mean() < 1.0
    assert (abs(drawn - wanted).max(-1) > 40).sum() < 20  # where two edges cross in one pixel


def test_words_of_pixels_come_apart_in_the_right_order():
    planes = np.random.default_rng(0).uniform(0, 255, (3, 5, 5)).astype(np.float32)
    image = np.asarray(drawing.pixels(drawing.Canvas(*planes)))
    np.testing.assert_array_equal(image, np.floor(np.moveaxis(planes, 0, -1) + 0.5))


def test_looks_change_pictures_and_no_states():
    looks = ("", "+palette=night", "+texture=rings", "+background", "+camera=10", "+zoom=0.9")
    for task in SCENES:
        images = [frame(f"{task}{look}").tobytes() for look in looks]
        assert len(set(images)) == len(looks)
    played = [play(f"planar/push{look}").vectors for look in looks]
    for vectors in played[1:]:
        np.testing.assert_array_equal(vectors, played[0])


def test_the_background_moves_while_nothing_else_does():
    environment = make("planar/reach+background", 64)
    state = environment.reset(jax.random.key(0))
    later = state._replace(time=state.time + 3)
    change = abs(
        np.asarray(environment.render(later)).astype(int) - np.asarray(environment.render(state))
    )
    assert change.max(-1).mean() > 3  # the ground, nearly everywhere
    still = make("planar/reach", 64)
    np.testing.assert_array_equal(still.render(later), still.render(state))


def test_a_page_shows_the_scene_above_its_variant():
    shown = page("reach_downhill", seed=3)
    row = 2 * 64
    assert shown.shape == (2 * row + 4, 7 * (row + 4) - 4, 3) and shown.dtype == np.uint8
    upper, lower = shown[:row], shown[row + 4 :]
    np.testing.assert_array_equal(upper, film("planar/reach", 3))
    np.testing.assert_array_equal(upper[:, :row], lower[:, :row])  # the same start
    assert (upper[:, -row:] != lower[:, -row:]).any()  # and another end
    np.testing.assert_array_equal(upper[::2, :row:2], frame("planar/reach", 3))
