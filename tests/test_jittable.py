"""Jittable environments behind the project's doors: pool, stepping, options, the command."""

import itertools
import json
import os
import subprocess
import sys
from concurrent.futures import CancelledError
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from episodes import arrays, assert_same_episode

from coworld_jax.data import load_episode
from coworld_jax.envs import (
    EnvironmentPool,
    RandomPolicy,
    Request,
    make_environment,
)
from coworld_jax.envs.jittable import planar, rollout
from coworld_jax.envs.jittable.pool import JittablePool
from coworld_jax.envs.jittable.rollout import WIDTH, JaxPolicy
from coworld_jax.policy import AgentPolicy
from experiments.benchmarks.env import measure

ROOT = Path(__file__).resolve().parent.parent
TASK = "planar/reach+noise=0.3"
STEPS = 6
SEEDS = [3, 2**32 - 1, 7, 3, *range(100, 100 + WIDTH)]  # more than one call holds


def open_pool(task=TASK, **arguments):
    return EnvironmentPool(task, **{"episode_steps": STEPS, **arguments})


@pytest.fixture(scope="module")
def pool():
    with open_pool() as opened:
        yield opened


def bright(parameters, memory, image):
    """An action of the mean of each colour, a key and the number of calls."""
    key, calls = memory
    mean = jnp.mean(image, axis=(0, 1), dtype=jnp.float32) / 255.0
    phase = jax.random.uniform(jax.random.fold_in(key, calls), (3,), maxval=6.0)
    return (key, calls + 1), jnp.sin(parameters["scale"] * mean + phase)


class Bright:
    """A policy of jax that sees and remembers."""

    reads = "image"
    act = staticmethod(bright)

    def __init__(self, scale):
        self.parameters = {"scale": jnp.float32(scale)}

    def start(self, seed):
        return jax.random.key(seed), np.int32(0)

    def episode(self, seed):
        memory = self.start(seed)

        def choose(image):
            nonlocal memory
            memory, action = self.act(self.parameters, memory, jnp.asarray(image))
            return np.asarray(action)

        return choose


class Stepping:
    """Any policy as one that must be called for each action."""

    def __init__(self, policy):
        self.reads, self.episode = policy.reads, policy.episode


# --- the pool -------------------------------------------------------------------------------------


def test_no_process_is_started_and_the_pool_is_an_environment_pool(pool):
    assert type(pool) is JittablePool and isinstance(pool, EnvironmentPool)
    assert (pool.pids, pool.restarts) == ((), 0)
    assert (pool.spec.task, pool.spec.episode_steps, pool.spec.state_size) == (TASK, STEPS, 6)


def test_an_episode_has_the_rows_and_extras_of_any_other(pool):
    (episode,) = pool.map([5], RandomPolicy(3))
    rows = STEPS + 1
    assert episode.image.shape == (rows, 64, 64, 3) and episode.image.dtype == np.uint8
    assert episode.action.shape == (rows, 3) and not episode.action[0].any()
    assert episode.reward[0] == 0.0 and (episode.discount == 1.0).all()
    assert set(episode.extras) == {"is_first", "is_last", "is_terminal", "state", "success"}
    assert episode.extras["is_first"].tolist() == [True] + [False] * STEPS
    assert episode.extras["is_last"].tolist() == [False] * STEPS + [True]
    assert not episode.extras["is_terminal"].any()
    assert episode.extras["success"].dtype == bool
    assert all(array.flags.c_contiguous for array in arrays(episode).values())
    position, place = episode.extras["state"][:, :2], episode.extras["state"][:, 4:]
    distance = np.linalg.norm(position - place, axis=1)  # the reward is of the row that it led to
    np.testing.assert_allclose(episode.reward[1:], 1 - distance[1:] / 1.2, atol=1e-6)


@pytest.mark.parametrize("policy", [RandomPolicy(3), Bright(3.0)], ids=["random", "seeing"])
def test_an_episode_is_the_same_whatever_is_played_beside_it(pool, policy):
    together = list(pool.map(SEEDS, policy))
    assert_same_episode(together[0], together[3])
    assert (together[0].image != together[2].image).any()
    for index in (1, 2, len(SEEDS) - 1):
        (alone,) = pool.map([SEEDS[index]], policy)
        assert_same_episode(alone, together[index])
    with open_pool(workers=3) as three:
        for one, other in zip(together, three.map(SEEDS, policy), strict=True):
            assert_same_episode(one, other)


def test_a_random_policy_plays_the_actions_that_its_actor_would(pool):
    (episode,) = pool.map([11], RandomPolicy(3))
    actor = RandomPolicy(3).episode(11)
    np.testing.assert_array_equal(episode.action[1:], [actor(None) for _ in range(STEPS)])


def test_compiled_and_stepped_episodes_agree(pool):
    policy = Bright(3.0)
    assert isinstance(policy, JaxPolicy) and not isinstance(Stepping(policy), JaxPolicy)
    (compiled,) = pool.map([4], policy)
    (stepped,) = pool.map([4], Stepping(policy))
    np.testing.assert_allclose(compiled.action, stepped.action, atol=1e-5)
    np.testing.assert_allclose(compiled.reward, stepped.reward, atol=1e-5)
    np.testing.assert_allclose(compiled.extras["state"], stepped.extras["state"], atol=1e-5)
    assert abs(compiled.image.astype(int) - stepped.image).max() <= 1


def test_new_parameters_change_the_actions_and_compile_nothing(pool):
    (other,) = pool.map([1], Bright(3.0))
    programs = rollout._play._cache_size()
    (one,) = pool.map([1], Bright(2.0))
    assert abs(one.action - other.action).max() > 0.01
    assert rollout._play._cache_size() == programs


def test_an_agent_plays(pool):
    method, state = tiny.make()
    player = method.players["target"]
    policy = AgentPolicy(player, state, 64, 0, explore=True)
    once, again = pool.map([3, 3], policy)
    assert_same_episode(once, again)
    assert once.action.shape == (STEPS + 1, 3) and abs(once.action[1:]).min() > 0.0


def test_what_a_policy_does_wrong_is_raised_where_its_episode_is_asked_for(pool):
    class Odd(Bright):
        act = staticmethod(lambda parameters, memory, image: (memory, jnp.full(3, jnp.nan)))

    with pytest.raises(ValueError, match=r"planar/reach\+noise=0.3 that are not finite"):
        list(pool.map([1], Odd(1.0)))
    with pytest.raises(ValueError, match="takes 3 finite numbers"):
        list(pool.map([1], Stepping(RandomPolicy(2))))
    (episode,) = pool.map([1], RandomPolicy(3))  # and the thread lives on
    assert len(episode.reward) == STEPS + 1


def test_seeds_may_be_endless_and_few_episodes_are_under_way(pool):
    seeds = itertools.count()
    episodes = pool.map(seeds, RandomPolicy(3))
    first = next(episodes)
    assert next(seeds) <= 2 * WIDTH + 2
    assert_same_episode(first, next(pool.map([0], RandomPolicy(3))))
    episodes.close()


def test_a_closed_pool_cancels_and_refuses():
    with open_pool(episode_steps=400) as opened:
        futures = [opened.submit(seed, Stepping(RandomPolicy(3))) for seed in range(4)]
        opened.close()
    assert futures[-1].cancelled()
    with pytest.raises(CancelledError):
        futures[-1].result()
    with pytest.raises(RuntimeError, match="The pool of planar/reach.* is closed"):
        opened.submit(0, RandomPolicy(3))
    assert not any(thread.is_alive() for thread in opened._threads)
    with pytest.raises(ValueError, match="must be at least 1, not 0"):
        open_pool(workers=0)


# --- stepping, options ----------------------------------------------------------------------------


def test_stepping_follows_the_interface():
    environment = make_environment(TASK, episode_steps=2, image_size=8)
    with pytest.raises(RuntimeError, match="reset"):
        environment.step(np.zeros(3))
    first = environment.reset(2**32 - 1)
    assert (first.reward, first.discount, first.is_last) == (0.0, 1.0, False)
    assert first.image.shape == (8, 8, 3) and first.extras["state"].shape == (6,)
    assert not environment.step(np.full(3, 9.0)).is_last
    last = environment.step(np.zeros(3))
    assert last.is_last and last.discount == 1.0
    with pytest.raises(RuntimeError, match="reset"):
        environment.step(np.zeros(3))
    environment.close()
    again = make_environment(TASK, episode_steps=2, image_size=8).reset(2**32 - 1)
    np.testing.assert_array_equal(first.image, again.image)


@pytest.mark.parametrize("task", ["planar/arm", "planar/push+background", "planar/reach+delay=1"])
def test_a_batch_equals_its_members(task):
    environment = planar.make(Request(task, "full", 64, None, None))
    seeds = np.arange(5, dtype=np.uint32)
    action = np.random.default_rng(0).uniform(-1, 1, (5, environment.spec.action_size))

    def twice(seed, action):
        state = environment.reset(jax.random.key(seed))
        state, reward, _ = environment.step(state, action)
        state, reward, _ = environment.step(state, -action)
        return environment.state_vector(state), reward, environment.render(state)

    wide = jax.jit(jax.vmap(twice))(seeds, action.astype(np.float32))
    single = jax.jit(twice)
    for index in range(5):
        vector, reward, image = single(seeds[index], action[index].astype(np.float32))
        np.testing.assert_allclose(wide[0][index], vector, atol=1e-6)
        np.testing.assert_allclose(wide[1][index], reward, atol=1e-6)
        assert abs(np.asarray(wide[2][index]).astype(int) - image).max() <= 1


def test_names_and_requests_need_no_jax():
    program = (
        "import sys, coworld_jax.envs.worker\n"
        "from coworld_jax.envs.suites import Request, check_request, find_jittable\n"
        "check_request(Request('planar/reach_desk+delay=2', 'full', 64, None, None))\n"
        "assert find_jittable('planar/arm') and not find_jittable('dmc/walker_walk')\n"
        "print('jax' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


# --- commands -------------------------------------------------------------------------------------


def test_the_benchmark_measures_a_jittable_task():
    figures = measure("planar/reach+zoom=0.9", workers=1, seconds=0.05, rounds=1)
    assert set(figures) == {"task", "workers", "env_steps_per_second"}
    assert 1 < figures["env_steps_per_second"] < 1e7


def collect(python, task, out, **environment):
    return subprocess.run(
        [
            *(python, "-m", "experiments.collect", f"--task={task}", "--policy=random"),
            *("--episodes=2", f"--out={out}"),
        ],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )


def test_a_dataset_is_collected_by_the_command(tmp_path):
    # Without a simulator or a screen: nothing asks which OpenGL there is.
    collect(sys.executable, "planar/push_desk", tmp_path / "out", MUJOCO_GL="none")
    record = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert (record["task"], record["action_size"]) == ("planar/push_desk", 4)
    files = sorted((tmp_path / "out").glob("*.npz"))
    episode = load_episode(files[0])
    assert len(files) == 2 and len(episode.reward) == 101
    assert {"state", "success"} <= set(episode.extras)
