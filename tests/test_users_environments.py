"""Environments of users: odd observations are taken, what cannot be is refused at its step."""

from __future__ import annotations

from collections import OrderedDict

import dm_env
import dm_env.specs
import gymnasium
import numpy as np
import pytest

from coworld_jax.envs import (
    EnvironmentPool,
    EnvironmentSpec,
    RandomPolicy,
    Request,
    Timestep,
    WorkerFailed,
    from_dm_env,
    from_gymnasium,
    make_environment,
)
from coworld_jax.envs.checks import Checker

REQUEST = Request("users:task", "fast", 64, None, 4)
FRAME = np.zeros((64, 64, 3), np.uint8)


class Toy(gymnasium.Env):
    """Gives what it is told to give."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012  # as gymnasium has it
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    render_mode = "rgb_array"

    def __init__(self, observation=0.0, reward=1.0, ended=False, cut=False):
        self.observation, self.reward, self.ended, self.cut = observation, reward, ended, cut

    def reset(self, *, seed=None, options=None):
        return self.observation, {}

    def step(self, action):
        return self.observation, self.reward, self.ended, self.cut, {}

    def render(self):
        return FRAME


OBSERVATIONS = {
    "nested": (
        {"arm": {"angle": np.arange(2.0), "on": True}, "goal": [3, (4.5, 5)]},
        [0, 1, 1, 3, 4.5, 5],
    ),
    "tuple": ((np.arange(2), np.float32(7.0)), [0, 1, 7]),
    "texts": ({"name": "push", "mission": b"go", "x": np.array([2.0])}, [2]),
    "nothing and objects": (OrderedDict(a=None, b=object(), c=4), [4]),
    "images": ({"rgb": FRAME, "deep": {"eye": FRAME}, "x": np.ones(2)}, [1, 1]),
    "array of texts": ((np.array(["a", "b"]), 6), [6]),
    "matrix": (np.eye(2), [1, 0, 0, 1]),
    "text alone": ("go left", None),
    "image alone": (FRAME, None),
}


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_numbers_of_an_observation_become_a_state_and_the_rest_is_left_out(name):
    observation, wanted = OBSERVATIONS[name]
    environment = from_gymnasium(Toy(observation), REQUEST)
    assert environment.spec.state_size == (0 if wanted is None else len(wanted))
    for timestep in (environment.reset(3), environment.step(np.zeros(2))):
        if wanted is None:
            assert timestep.extras == {}
        else:
            assert timestep.extras["state"].tolist() == wanted
            assert timestep.extras["state"].dtype == np.float32


@pytest.mark.parametrize(
    "reward", [1.5, np.float64(1.5), np.array([1.5]), np.array([[1.5]], np.float32), np.array(1.5)]
)
def test_a_reward_may_be_an_array_of_one(reward):
    environment = from_gymnasium(Toy(reward=reward, ended=np.array([True])), REQUEST)
    environment.reset(0)
    timestep = environment.step(np.zeros(2))
    assert (timestep.reward, timestep.discount, timestep.is_last) == (1.5, 0.0, True)


@pytest.mark.parametrize(
    ("reward", "form"),
    [(None, "None"), (np.ones(2), r"float64 \[2\]"), ("one", r"<U3 \[\]"), ([], r"float64 \[0\]")],
)
def test_a_reward_that_is_no_number_is_refused(reward, form):
    environment = from_gymnasium(Toy(reward=reward), REQUEST)
    environment.reset(0)
    with pytest.raises(ValueError, match=f"users:task gave {form} as a reward, but one number"):
        environment.step(np.zeros(2))


class OldStep(Toy):
    def step(self, action):
        return self.observation, 1.0, False, {}


class OldReset(Toy):
    def reset(self, *, seed=None, options=None):
        return np.zeros(2)


class Unseeded(Toy):
    def reset(self):
        return np.zeros(2)


class Undrawn:
    """Has never heard of a render mode."""

    action_space, reset, step = Toy.action_space, Unseeded.reset, OldStep.step


OLD = {
    "step": (OldStep, "its step gives 4 values"),
    "reset": (OldReset, "its reset gives an observation alone"),
    "seed": (Unseeded, "its reset takes no seed"),
    "render mode": (Undrawn, "it has no render_mode"),
}


@pytest.mark.parametrize("name", OLD)
def test_the_interface_of_old_gym_is_named(name):
    make, what = OLD[name]
    with pytest.raises(ValueError, match=f"users:task: {what}, as in gym before version 0.26: wra"):
        play_one_step(make())


class Foreign:
    """Has the methods of gymnasium and nothing else of it."""

    def __init__(self):
        toy = Toy()
        self.action_space, self.render_mode = toy.action_space, toy.render_mode
        self.reset, self.step, self.render, self.close = toy.reset, toy.step, toy.render, toy.close


def test_an_environment_need_not_descend_from_gymnasium():
    play_one_step(Foreign())
    with pytest.raises(ValueError, match="users:task has no time limit"):
        from_gymnasium(Foreign(), REQUEST._replace(episode_steps=None))


def play_one_step(toy):
    environment = from_gymnasium(toy, REQUEST)
    environment.reset(0)
    environment.step(np.zeros(2))


def test_actions_of_whole_numbers_are_refused():
    toy = Toy()
    toy.action_space = gymnasium.spaces.Box(0, 5, (2,), np.int64)
    with pytest.raises(ValueError, match="must be a bounded Box, not Box.*int64.*, of floats"):
        from_gymnasium(toy, REQUEST)


class Mute(dm_env.Environment):
    """Pays nothing, not even zero."""

    def reset(self):
        return dm_env.restart({"place": {"x": 1.0}})

    def step(self, action):
        return dm_env.transition(None, {"place": {"x": 1.0}})

    def observation_spec(self):
        raise NotImplementedError  # dm_env wants it to be there; nobody calls it

    def action_spec(self):
        return dm_env.specs.BoundedArray((2,), np.float32, -1.0, 1.0)


class Fading(Mute):
    """Goes on with the discount 0.9."""

    def step(self, action):
        return dm_env.transition(1.0, {"place": {"x": 1.0}}, discount=0.9)


def test_the_discount_of_a_repeated_action_is_a_product():
    request = REQUEST._replace(action_repeat=3)
    adapted = from_dm_env(lambda seed: Fading(), request, frame=lambda _: FRAME)
    adapted.reset(0)
    timestep = adapted.step(np.zeros(2))
    assert (timestep.reward, timestep.discount) == (3.0, pytest.approx(0.9**3))


def test_a_dm_env_without_a_reward_is_refused():
    adapted = from_dm_env(lambda seed: Mute(), REQUEST, frame=lambda _: FRAME)
    assert adapted.reset(0).extras["state"].tolist() == [1.0]
    with pytest.raises(ValueError, match="users:task gave None as a reward"):
        adapted.step(np.zeros(2))


# --- what every environment gives, checked at each step -------------------------------------------

SPEC = EnvironmentSpec("users:task", 1, 1, 3, 64, "fast", {}, state_size=2)
GOOD = Timestep(FRAME, 1.0, 1.0, False, {"state": np.zeros(2, np.float32), "success": np.array(0)})
RESET = GOOD._replace(reward=0.0)


def extra(**changes):
    return GOOD._replace(extras={**GOOD.extras, **changes})


REFUSED = {
    "tuple": (tuple(GOOD), "gave a tuple, but reset and step return a Timestep"),
    "no frame": (GOOD._replace(image=None), "gave a frame object"),
    "small frame": (GOOD._replace(image=FRAME[:32]), r"gave a frame uint8 \[32, 64, 3\], but uint"),
    "NaN": (GOOD._replace(reward=np.nan), "gave the reward nan at env_step 1; it must be finite"),
    "infinite": (GOOD._replace(reward=np.array([np.inf])), "the reward inf at env_step 1"),
    "two rewards": (GOOD._replace(reward=np.ones(2)), "float64 .2. as the reward at env_step 1"),
    "no discount": (GOOD._replace(discount=None), "gave None as the discount at env_step 1"),
    "NaN discount": (GOOD._replace(discount=np.nan), "the discount nan at env_step 1: not in"),
    "large discount": (GOOD._replace(discount=1.1), "the discount 1.1 at env_step 1: not in"),
    "goes on": (GOOD._replace(discount=0.0), "the discount 0 at env_step 1 and went on"),
    "longer": (extra(state=np.zeros(3)), r"a state of shape \[3\] at env_step 1.*had \[2\]: "),
    "infinite state": (extra(state=np.array([0.0, np.inf])), "a state at env_step 1 with values"),
    "no state": (GOOD._replace(extras={}), "a state of shape none at env_step 1"),
    "one more": (
        extra(x=np.zeros(1)),
        r"the extras state \[2\], success \[\], x \[1\] at env_step 1, but state \[2\], success",
    ),
    "no extras": (GOOD._replace(extras=None), "gave no mapping as extras at env_step 1"),
    "objects": (extra(success=None), "gave Python objects as 'success' at env_step 1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_timestep_is_refused_where_it_happens(name):
    timestep, reason = REFUSED[name]
    checker = Checker(SPEC, 64)
    checker.checked(RESET, first=True)
    with pytest.raises(ValueError, match=f"^users:task .*{reason}") as info:
        checker.checked(timestep, first=False)
    assert len(str(info.value).splitlines()) == 1


def test_an_episode_ends_within_its_steps_and_not_at_once():
    checker = Checker(SPEC, 64)
    for _ in range(2):  # counting begins again
        checker.checked(RESET, first=True)
        for _ in range(2):
            checker.checked(GOOD, first=False)
        last = checker.checked(GOOD._replace(is_last=np.True_, discount=np.array([0])), first=False)
        assert (last.discount, last.is_last) == (0.0, True)
    checker.checked(RESET, first=True)
    assert checker.checked(GOOD._replace(discount=1.000001), first=False).discount == 1.0
    checker.checked(GOOD, first=False)
    with pytest.raises(ValueError, match="went on after env_step 3, but .*episode_steps=3"):
        checker.checked(GOOD, first=False)
    with pytest.raises(ValueError, match="users:task ended at the reset"):
        checker.checked(RESET._replace(is_last=True), first=True)


MODULE = """
import gymnasium, numpy as np
from test_users_environments import Toy
from coworld_jax.envs import from_gymnasium

class Growing(Toy):
    def step(self, action):
        self.observation = np.zeros(np.size(self.observation) + 1)
        return super().step(action)

class Failing(Toy):
    def step(self, action):
        self.reward = np.where(self.reward < 3, self.reward + 1, np.nan)
        return super().step(action)

def bare(request):
    return gymnasium.make("Pendulum-v1", render_mode="rgb_array")

def growing(request):
    return from_gymnasium(Growing(), request, simulator_steps=9)

def failing(request):
    return from_gymnasium(Failing(), request, simulator_steps=9)

def quits(request):
    raise SystemExit("argparse does not like this")

def good(request):
    return from_gymnasium(Toy({"a": "text", "b": {"c": 1.0}}), request, simulator_steps=9)
"""


def test_a_users_module_in_workers(tmp_path, monkeypatch, caplog):
    (tmp_path / "users_toys.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(WorkerFailed, match="^users_toys:bare returned .*return from_gymnasium.env"):
        EnvironmentPool("users_toys:bare")
    for task, reason in {
        "users_toys:failing": "^users_toys:failing gave the reward nan at env_step 3; it must be",
        "users_toys:growing": r"gave a state of shape \[2\] at env_step 1, but the first one had",
    }.items():
        with EnvironmentPool(task) as pool, pytest.raises(WorkerFailed, match=reason):
            pool.submit(0, RandomPolicy(2)).result()
    assert not caplog.text
    with pytest.raises(WorkerFailed, match="raised SystemExit: argparse does not like this"):
        EnvironmentPool("users_toys:quits")
    with EnvironmentPool("users_toys:good") as pool:
        episode = pool.submit(0, RandomPolicy(2)).result()
    assert episode.extras["state"].tolist() == [[1.0]] * 10


def test_a_package_that_a_module_lacks_is_not_taken_for_the_module(tmp_path, monkeypatch):
    (tmp_path / "users_lacking.py").write_text("import no_such_simulator")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_simulator"):
        make_environment("users_lacking:make")
    for name in ("users_absent:make", "users_absent.inner:make"):
        with pytest.raises(ValueError, match="No module named 'users_absent'. Its folder must be"):
            make_environment(name)
