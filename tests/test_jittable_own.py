"""A user's own jittable environment: how it is named, what it does, and which are refused."""

import dataclasses
import subprocess
import venv

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_jittable import ROOT, Stepping, collect

from coworld_jax.data import load_episode
from coworld_jax.envs import (
    EnvironmentPool,
    JittableEnvironment,
    RandomPolicy,
    Request,
    jittable,
    jittable_spec,
    make_environment,
)
from coworld_jax.envs.jittable import options
from coworld_jax.envs.jittable.pool import JittablePool

GYMNAX = "experiments.examples.gymnax_pendulum:pendulum"


def countdown(request: Request) -> JittableEnvironment:
    """Counts down from 4 and ends at 0; each step pays the number that it leads to, plus 1."""
    spec = jittable_spec(request, action_size=2, simulator_steps=9, package="numpy")

    def step(state, action):
        del action
        return state - 1, state.astype(jnp.float32), (state > 1).astype(jnp.float32)

    def render(state):
        return jnp.full((spec.image_size, spec.image_size, 3), state, jnp.uint8)

    return JittableEnvironment(
        spec,
        lambda key: 4 + jax.random.randint(key, (), 0, 1),
        step,
        render,
        lambda state: state[None].astype(jnp.float32),
    )


counted = jittable(countdown)


@jittable
def wide(request: Request) -> JittableEnvironment:
    """Draws frames of another size than the one that is asked for."""
    environment = countdown(request)
    return dataclasses.replace(environment, render=lambda state: jnp.zeros((3, 3, 3), jnp.uint8))


@jittable
def flat(request: Request) -> JittableEnvironment:
    """Describes its state by a number, not by a vector."""
    return dataclasses.replace(countdown(request), state_vector=jnp.float32)


@jittable
def unsure(request: Request) -> JittableEnvironment:
    """Tells its success by a float."""
    return dataclasses.replace(countdown(request), success=lambda state: jnp.float32(1.0))


@jittable
def broken(request: Request) -> JittableEnvironment:
    """Pays what is no number for the third step."""
    counting = countdown(request)

    def step(state, action):
        after, reward, discount = counting.step(state, action)
        return after, jnp.where(after == 1, jnp.nan, reward), discount

    return dataclasses.replace(counting, step=step)


@jittable
def growing(request: Request) -> JittableEnvironment:
    """Discounts by 1.5."""
    counting = countdown(request)

    def step(state, action):
        after, reward, _ = counting.step(state, action)
        return after, reward, jnp.float32(1.5)

    return dataclasses.replace(counting, step=step)


@jittable
def nothing(request: Request) -> JittableEnvironment:
    """Forgets to return."""


def test_a_users_own_ends_where_its_task_ends():
    with EnvironmentPool("test_jittable_own:counted") as pool:
        assert type(pool) is JittablePool
        assert (pool.spec.episode_steps, pool.spec.state_size) == (9, 1)
        assert set(pool.spec.versions) == {"numpy"}
        for policy in (RandomPolicy(2), Stepping(RandomPolicy(2))):
            (episode,) = pool.map([0], policy)
            assert episode.reward.tolist() == [0, 4, 3, 2, 1]
            assert episode.discount.tolist() == [1, 1, 1, 1, 0]
            assert episode.extras["state"][:, 0].tolist() == [4, 3, 2, 1, 0]
            assert episode.extras["is_terminal"].tolist() == [False] * 4 + [True]
            assert "success" not in episode.extras


@pytest.mark.parametrize(
    "name, compiled, stepped",
    [
        ("broken", "a reward that is not finite at env_step 3", "the reward nan at env_step 3"),
        ("growing", "a discount outside .* at env_step 1", "the discount 1.5 at env_step 1"),
    ],
)
def test_a_bad_episode_is_refused_whoever_plays_it(name, compiled, stepped):
    with EnvironmentPool(f"test_jittable_own:{name}") as pool:
        with pytest.raises(ValueError, match=compiled):
            list(pool.map([0], RandomPolicy(2)))
        with pytest.raises(ValueError, match=stepped):
            list(pool.map([0], Stepping(RandomPolicy(2))))


def test_an_action_repeat_sums_rewards_up_to_the_end():
    environment = make_environment("test_jittable_own:counted+noise=1", action_repeat=3)
    environment.reset(0)
    first, second = environment.step(np.zeros(2)), environment.step(np.zeros(2))
    assert (first.reward, first.discount, first.is_last) == (9.0, 1.0, False)
    assert (second.reward, second.discount, second.is_last) == (1.0, 0.0, True)
    once = make_environment("planar/reach", image_size=8)
    twice = make_environment("planar/reach", image_size=8, action_repeat=2)
    action = np.float32([0.5, -1.0, 0.2])
    once.reset(1), twice.reset(1)
    pair, both = [once.step(action), once.step(action)], twice.step(action)
    assert both.reward == pytest.approx(pair[0].reward + pair[1].reward)
    np.testing.assert_allclose(both.extras["state"], pair[1].extras["state"], atol=1e-6)
    assert (once.spec.episode_steps, twice.spec.episode_steps) == (100, 50)


def test_a_repeat_leaves_the_success_at_the_start_as_it_is():
    request = Request("test_jittable_own:counted", "full", 64, 2, None)
    for value in (True, False):
        told = dataclasses.replace(countdown(request), success=lambda state, v=value: jnp.bool_(v))
        twice = options.repeated(told, 2)
        assert bool(twice.success(twice.reset(jax.random.key(0)))) is value


def test_nothing_changes_after_the_end_within_a_repeat():
    """A count from 4 downwards ends at 0; below it, it would succeed and pay what is no number."""
    request = Request("test_jittable_own:counted", "full", 64, 5, None)
    counting = countdown(request)

    def step(state, action):
        after, reward, discount = counting.step(state, action)
        return after, jnp.where(after < 0, jnp.nan, reward), discount

    environment = dataclasses.replace(counting, step=step, success=lambda state: state < 0)
    once = options.repeated(environment, 5)
    state, reward, discount = once.step(once.reset(jax.random.key(0)), jnp.zeros(2))
    assert (float(reward), float(discount), bool(once.success(state))) == (10.0, 0.0, False)
    assert once.state_vector(state).tolist() == [0.0]


@pytest.mark.parametrize(
    "name, sentence",
    [
        ("flat", "state_vector is float32 [], but float32 [1] is needed"),
        ("wide", "render is uint8 [3, 3, 3], but uint8 [64, 64, 3] is needed"),
        ("unsure", "success is float32 [], but bool [] is needed"),
        ("nothing", "returned None, but a JittableEnvironment is needed"),
        (
            "countdown",
            "test_jittable_own:countdown is jittable: write @jittable above its function",
        ),
        ("counted+sparse", "this task does not say when it succeeded"),
        ("counted+delay=1", "test_jittable_own:counted has no option delay; it has noise, sparse"),
        ("missing", "module 'test_jittable_own' has no attribute 'missing'"),
    ],
)
def test_what_is_odd_about_a_users_own_is_told_in_one_sentence(name, sentence):
    with pytest.raises(ValueError) as raised:
        make_environment(f"test_jittable_own:{name}")
    assert sentence in str(raised.value)


@pytest.mark.slow
def test_the_example_of_gymnax_works_in_an_environment_of_its_own(tmp_path):
    """gymnax asks for another gymnasium than the suites are tested with."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line]
    (tmp_path / "pins.txt").write_text(
        "\n".join(line for line in pins if not line.startswith(("#", "gymnasium")))
    )
    install = [python, "-m", "pip", "install", "-q", "-c", str(tmp_path / "pins.txt")]
    subprocess.run([*install, "-e", f"{ROOT}[train]", "gymnax==1.0.1", "six"], check=True)
    collect(python, GYMNAX, tmp_path / "out")
    episode = load_episode(sorted((tmp_path / "out").glob("*.npz"))[0])
    cosine, sine, _ = episode.extras["state"].T
    assert len(episode.reward) == 201 and (episode.reward[1:] < 0).all()
    # The red rod points where the state says: up for an angle of 0, to the left for a quarter.
    colours = episode.image.astype(float)
    red = (colours[..., 0] > colours[..., 2] + 60).astype(float)
    places = np.linspace(-1, 1, 64)
    across = (red.sum(1) @ places) / red.sum((1, 2))
    down = (red.sum(2) @ places) / red.sum((1, 2))
    assert np.corrcoef(across, -sine)[0, 1] > 0.95 and np.corrcoef(down, -cosine)[0, 1] > 0.95
