"""A source that reads the simulator's state: its scaling, its data, its policy, and that it learns.

The contract of its updates is in test_contract.py, the paths of its gradients in test_gradients.py.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from episodes import make_episode
from PIL import Image

from coworld_jax.agents.dreamer import scaling, world_model
from coworld_jax.agents.dreamer.agent import make_agent
from coworld_jax.data import Replay
from coworld_jax.envs import EnvironmentPool, RandomPolicy, episode_seed
from coworld_jax.evaluation.state_curves import shown_coordinates, state_curves_figure
from coworld_jax.method import SOURCE, TARGET
from coworld_jax.methods import METHODS
from coworld_jax.policy import AgentPolicy

SIZE = 24  # of walker's state
STEPS = 30


def measured(*batches: np.ndarray) -> scaling.Scaling:
    """The scaling after these batches of states, ``[T, B, N]``."""
    found = scaling.no_scaling(batches[0].shape[-1])
    for count, batch in enumerate(batches):
        moments = scaling.moments(jnp.asarray(batch))
        found = scaling.measure(found, moments, jnp.int32(count))
    return found


def test_scaling_by_hand() -> None:
    # Mean 3, deviation 2; a coordinate at rest at 7 gets the smallest deviation, 0.01.
    found = measured(np.asarray([[[1.0, 7.0]], [[5.0, 7.0]]]))
    np.testing.assert_allclose(found["mean"], [3.0, 7.0])
    np.testing.assert_allclose(found["std"], [2.0, 0.01])
    # (9 - 3) / 2 = 3: ln 4; 0.5 beyond rest is 50 deviations: -ln 51.
    scaled = scaling.scale_state(found, jnp.asarray([9.0, 6.5]))
    np.testing.assert_allclose(scaled, [np.log(4.0), -np.log(51.0)], rtol=1e-5)
    np.testing.assert_allclose(scaling.unscale_state(found, scaled), [9.0, 6.5], rtol=1e-5)


def test_scaling_is_that_of_all_batches_together() -> None:
    rng = np.random.default_rng(0)
    batches = [rng.normal(4.0, 3.0, (6, 5, 2)) + i for i in range(4)]
    found, whole = measured(*batches), np.stack(batches).reshape(-1, 2)
    np.testing.assert_allclose(found["mean"], whole.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(found["std"], whole.std(axis=0), rtol=1e-4)
    # The first batch forgets what was there before.
    stale = {"mean": jnp.full(2, 9.0), "std": jnp.full(2, 9.0)}
    again = scaling.measure(stale, scaling.moments(jnp.asarray(batches[0])), jnp.int32(0))
    np.testing.assert_allclose(again["mean"], batches[0].mean(axis=(0, 1)), rtol=1e-5)


@pytest.mark.slow
def test_scaling_is_measured_for_one_source_and_not_learnt() -> None:
    config = tiny.with_settings(learning={"weight_decay": 0.1})
    method, state = tiny.make(config, sources=2, state_size=5)
    batch = {"source1": tiny.batch(0, 5)}
    measure, learn = (jax.jit(method.updates[name]) for name in ("source1 measure", "source1"))
    state, _ = measure(state, batch, jax.random.key(0), jnp.int32(0))
    first, second = (source.world_model["scaling"] for source in state.sources)
    np.testing.assert_array_equal(first["mean"], 0.0)
    mean = np.asarray(batch["source1"].state).mean(axis=(0, 1))
    np.testing.assert_allclose(second["mean"], mean, rtol=1e-5)
    updated, _ = learn(state, batch, jax.random.key(0), jnp.int32(0))
    found = updated.sources[1].world_model
    for name in ("mean", "std"):
        np.testing.assert_array_equal(found["scaling"][name], second[name])
    kernel = found["encoder"]["params"]["hidden0"]["kernel"]
    assert np.any(kernel != state.sources[1].world_model["encoder"]["params"]["hidden0"]["kernel"])


def test_a_replay_holds_the_states_beside_their_frames(tmp_path) -> None:
    rng = np.random.default_rng(0)
    states = [rng.normal(size=(rows, 5)).astype(np.float32) for rows in (9, 6)]
    replay = Replay(tmp_path, slots=3, rows=9, action_size=3, minimum_rows=4, state_size=5)
    for index, state in enumerate(states):
        episode = make_episode(index, len(state), state=state)
        # A frame says which row it is, its state as well.
        episode.image[:, 0, 0, 0] = np.arange(len(state)) + 10 * index
        replay.append(episode, str(index))
    np.testing.assert_array_equal(replay.store.state[:9], states[0])
    batch = tiny.sample(replay.store, jax.random.key(0), 4, 20)
    assert batch.state.shape == (4, 20, 5)
    for row, state in zip(np.ravel(batch.image[..., 0, 0, 0]), batch.state.reshape(-1, 5)):
        np.testing.assert_array_equal(state, states[row // 10][row % 10])
    for extras, found in (({}, "none"), ({"state": np.zeros((9, 4), np.float32)}, r"\[9, 4\]")):
        with pytest.raises(ValueError, match=f"Episode x has a state of shape {found}, but .*9, 5"):
            replay.append(make_episode(3, **extras), "x")


@pytest.fixture(scope="module")
def episodes():
    """Random episodes of walker_walk."""
    with EnvironmentPool("dmc/walker_walk", profile="fast", episode_steps=STEPS) as pool:
        assert pool.spec.state_size == SIZE
        seeds = [episode_seed(0, "state", index) for index in range(4)]
        return list(pool.map(seeds, RandomPolicy(6)))


def test_a_policy_that_reads_states_is_handed_states() -> None:
    class Echo:
        reads = "state"

        def episode(self, seed):
            return lambda state: state[:6]

    with EnvironmentPool("dmc/walker_walk", profile="fast", episode_steps=3) as pool:
        (episode,) = pool.map([5], Echo())
    wanted = np.clip(episode.extras["state"][:-1, :6], -1.0, 1.0)
    np.testing.assert_array_equal(episode.action[1:], wanted)


@pytest.mark.slow
def test_an_agent_acts_on_states_as_it_filters_them(episodes) -> None:
    config, domains = tiny.with_settings(source_observation="state"), tiny.domains(1, SIZE)
    domains["source"] = domains["source"]._replace(action_size=2)
    method = METHODS[config.method].make(config.settings, domains)
    state = jax.jit(method.init)(jax.random.key(7))
    states = episodes[0].extras["state"]
    params = state.sources[0].world_model | {"scaling": measured(states[:, None])}
    source = state.sources[0].replace(world_model=params)
    state = state.replace(sources=(source,))
    policy = AgentPolicy(method.players["source"], state, 64, SIZE, explore=False)
    assert policy.reads == "state"
    act, again = policy.episode(seed=1), policy.episode(seed=1)
    actions = [act(row) for row in states[:5]]
    assert all(action.shape == (2,) and (np.abs(action) < 1).all() for action in actions)
    np.testing.assert_array_equal(again(states[0]), actions[0])
    assert np.any(again(states[2]) != actions[1])  # it looks at the state
    # What the encoder takes: of the size of one, whatever the simulator's units.
    model = make_agent(tiny.NETWORK, tiny.LEARNING, tiny.ACTION, SIZE).model
    normal = world_model.normalise(model, params, jnp.asarray(states))
    assert 0.3 < float(jnp.std(normal)) < 1.0 < np.std(states)


@pytest.fixture(scope="module")
def learnt(episodes, tmp_path_factory):
    """200 updates of the source with coupling B: its method, state, data and metrics."""
    # A weight at which a few updates show the alignment beside the images.
    config = tiny.with_settings(
        learning={"batch": 4, "length": 8, "model_lr": 3e-3},
        network={"deter": 24, "hidden": 24, "units": 32, "depth": 2},
        coupling={"alignment_scale": 300.0},
    )
    method, state = tiny.start(config, state_size=SIZE)
    stores = {}
    for domain, size in ((SOURCE, SIZE), (TARGET, 0)):
        directory = tmp_path_factory.mktemp(domain)
        replay = Replay(directory, 4, STEPS + 1, tiny.ACTION, minimum_rows=8, state_size=size)
        for index, episode in enumerate(episodes):
            short = episode._replace(action=episode.action[:, : tiny.ACTION])
            replay.append(short, str(index))
        stores[domain] = replay.store
    own = {SOURCE: stores[SOURCE]}
    state, _ = tiny.scan(method, "source measure", 50, state, own, {})
    state, metrics = tiny.scan(method, "source aligned", 200, state, stores, {})
    return method, state, stores, metrics


def ends(values: jax.Array) -> tuple[float, float]:
    """Mean of the first ten updates, and of the last ten."""
    return float(values[:10].mean()), float(values[-10:].mean())


@pytest.mark.slow
def test_state_and_bridge_are_learnt_from_a_real_simulator(learnt) -> None:
    *_, metrics = learnt
    # Up to the constant n ln(std sqrt(2 pi)), below which the likelihood cannot fall.
    constant = SIZE * np.log(scaling.STATE_STD * np.sqrt(2.0 * np.pi))
    before, after = ends(metrics["source/model/state"] - constant)
    assert after < 0.5 * before
    # Its label is learnt at the same time, and grows: what counts is the share of it.
    before, after = ends(metrics["source/model/bridge_explained"])
    assert before < 0.1 and 0.25 < after < 1.0


@pytest.mark.slow
def test_the_target_is_drawn_to_what_the_bridge_sees(learnt) -> None:
    method, state, stores, _ = learnt
    state = jax.tree.map(jnp.copy, state)  # the phase overwrites it
    data = {TARGET: stores[TARGET]}
    _, metrics = tiny.scan(method, "target model", 60, state, data, {})
    before, after = ends(metrics["target/model/alignment"])
    assert after < 0.7 * before


def test_curves_show_what_moves_and_end_as_a_picture(tmp_path) -> None:
    time = np.arange(50)[:, None]
    truth = np.sin(0.2 * time * np.arange(1, 25)) * np.where(np.arange(24) % 2, 1.0, 0.0)
    shown = shown_coordinates(truth)
    assert len(shown) == 6 and (shown % 2 == 1).all() and shown[0] == 1 and shown[-1] == 23
    assert shown_coordinates(np.ones((5, 3))).tolist() == [0]
    assert shown_coordinates(truth[:, :4]).tolist() == [1, 3]
    state_curves_figure(tmp_path / "new" / "a.png", truth, truth + 0.1, 15, title="walker")
    with Image.open(tmp_path / "new" / "a.png") as image:
        assert image.size[0] == 924 and np.ptp(np.asarray(image.convert("L"))) > 100
    with pytest.raises(ValueError, match=r"\[50, 24\] and \[49, 24\]"):
        state_curves_figure(tmp_path / "b.png", truth, truth[1:], 15)
    with pytest.raises(ValueError, match="Of 50 states, 51 cannot have been seen"):
        state_curves_figure(tmp_path / "b.png", truth, truth, 51)
