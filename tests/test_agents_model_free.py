"""Updates of the agents without a world model: order, what stays as it is, several devices."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from coworld_jax.agents.model_free import (
    CandidateDraws,
    CloningState,
    CurlAgent,
    CurlDraws,
    Draws,
    FeatureAgent,
    PixelAgent,
    Transitions,
    exploration_std,
    init_curl,
    init_features,
    init_pixel_agent,
    update_bc,
    update_cql,
    update_curl,
    update_drq_bc,
    update_features,
)
from coworld_jax.agents.model_free.actor_critic import noisy_action
from coworld_jax.agents.model_free.curl import encode, squashed_action
from coworld_jax.networks import (
    FeatureActor,
    FeatureCritic,
    PixelActor,
    PixelEncoder,
    TwinCritic,
)

B, A, SIZE, C = 4, 2, 18, 6
STD = jnp.asarray(0.4)
RNG = np.random.default_rng(0)


def normal(*shape: int) -> jax.Array:
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


def whole(high: int, *shape: int, dtype: Any = jnp.int32) -> jax.Array:
    return jnp.asarray(RNG.integers(0, high, shape), dtype)


BATCH = Transitions(
    obs=whole(256, B, SIZE, SIZE, C, dtype=jnp.uint8),
    action=normal(B, A),
    reward=normal(B),
    discount=jnp.asarray([0.9, 0.0, 0.9, 0.9]),
    next_obs=whole(256, B, SIZE, SIZE, C, dtype=jnp.uint8),
)
DRAWS = Draws(whole(9, B, 2), whole(9, B, 2), normal(B, A), normal(B, A))
CANDIDATES = CandidateDraws(normal(B, 3, A), normal(B, 3, A), normal(B, 3, A))
CURL_DRAWS = CurlDraws(*(whole(3, B, 2) for _ in range(3)), normal(B, A), normal(B, A))

PIXELS = PixelAgent(PixelEncoder(2), PixelActor(3, 8, A), TwinCritic(3, 8), optax.adam(1e-2))
CURL = CurlAgent(
    encoder=PixelEncoder(2),
    actor=PixelActor(3, 8, 2 * A, squash=False),
    critic=TwinCritic(3, 8, squash=False),
    optimizer=optax.adam(1e-2),
    temperature_optimizer=optax.adam(1e-2, b1=0.5),
    crop=16,
    target_entropy=-float(A),
)


CURL_UPDATE = jax.jit(partial(update_curl, CURL))


@pytest.fixture(scope="module")
def pixel_state() -> Any:
    init = jax.jit(lambda key: init_pixel_agent(PIXELS, key, (SIZE, SIZE, C), A))
    return init(jax.random.key(0))


@pytest.fixture(scope="module")
def curl_state() -> Any:
    return jax.jit(lambda key: init_curl(CURL, key, C, A))(jax.random.key(0))


def moved(before: Any, after: Any) -> set[str]:
    """Fields of a state that changed."""
    return {
        name
        for name in before._fields
        if any(
            not np.array_equal(old, new)
            for old, new in zip(
                jax.tree.leaves(getattr(before, name)),
                jax.tree.leaves(getattr(after, name)),
                strict=True,
            )
        )
    }


def on_two_devices(update: Any, state: Any, *arrays: Any) -> Any:
    """The update on two halves of the batch; both halves must leave the same state."""
    halves = jax.tree.map(lambda x: x.reshape(2, B // 2, *x.shape[1:]), arrays)
    mapped = jax.jit(
        jax.vmap(partial(update, axis_name="devices"), (None, 0, 0), axis_name="devices")
    )
    states, trace = mapped(state, *halves)
    for leaf in jax.tree.leaves(states):
        np.testing.assert_array_equal(leaf[0], leaf[1])
    return jax.tree.map(lambda x: x[0], states), trace


def assert_near(found: Any, expected: Any) -> None:
    for have, want in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        scale = float(np.max(np.abs(want))) + 1e-6
        np.testing.assert_allclose(have, want, rtol=1e-3, atol=1e-4 * scale)


def drq_bc(state: Any, batch: Any, draws: Any, axis_name: str | None = None) -> Any:
    return update_drq_bc(PIXELS, state, batch, draws, STD, 2.5, axis_name)


def cql(state: Any, batch: Any, draws: Any, axis_name: str | None = None) -> Any:
    return update_cql(PIXELS, state, batch, *draws, STD, 5.0, axis_name)


def curl(state: Any, batch: Any, draws: Any, axis_name: str | None = None) -> Any:
    return update_curl(CURL, state, batch, draws, jnp.asarray(True), axis_name)


@pytest.mark.parametrize(
    ("update", "draws"),
    [
        (drq_bc, DRAWS),
        pytest.param(cql, (DRAWS, CANDIDATES), marks=pytest.mark.slow),
        pytest.param(curl, CURL_DRAWS, marks=pytest.mark.slow),
    ],
)
def test_two_devices_learn_what_one_does(
    update: Any, draws: Any, pixel_state: Any, curl_state: Any
) -> None:
    start = curl_state if update is curl else pixel_state
    state, trace = jax.jit(update)(start, BATCH, draws)
    split, split_trace = on_two_devices(update, start, BATCH, draws)
    assert_near(jax.tree.map(lambda x: x[0], split_trace.grads), trace.grads)
    assert moved(start, split) == moved(start, state)


def test_a_drq_update_moves_everything_and_the_slow_critic_by_its_rate(pixel_state: Any) -> None:
    state, _ = jax.jit(drq_bc)(pixel_state, BATCH, DRAWS)
    assert moved(pixel_state, state) == set(state._fields)
    expected = jax.tree.map(
        lambda slow, fast: 0.99 * slow + 0.01 * fast, pixel_state.slow_critic, state.critic
    )
    assert_near(state.slow_critic, expected)


def test_cloning_learns_encoder_and_actor(pixel_state: Any) -> None:
    params = {"encoder": pixel_state.encoder, "actor": pixel_state.actor}
    state = CloningState(**params, opt=PIXELS.optimizer.init(params))
    update = jax.jit(partial(update_bc, PIXELS))
    losses = []
    for _ in range(25):
        state, trace = update(state, BATCH, DRAWS, jnp.asarray(0.0))
        losses.append(float(jnp.mean(trace.values["cloning_loss"])))
    assert set(trace.grads) == {"encoder", "actor"}
    assert losses[-1] < 0.8 * losses[0]


def test_curl_steps_the_policy_only_when_due(curl_state: Any) -> None:
    idle, trace = CURL_UPDATE(curl_state, BATCH, CURL_DRAWS, jnp.asarray(False))
    always = {"encoder", "critic", "contrast", "critic_opt", "encoder_opt", "contrast_opt"}
    assert moved(curl_state, idle) == always
    assert not np.any(trace.values["actor_loss"])
    due, _ = CURL_UPDATE(curl_state, BATCH, CURL_DRAWS, jnp.asarray(True))
    assert moved(curl_state, due) == set(due._fields)


def test_curls_positives_pass_the_slow_encoder_after_it_has_followed(curl_state: Any) -> None:
    state, trace = CURL_UPDATE(curl_state, BATCH, CURL_DRAWS, jnp.asarray(True))
    rows = [
        BATCH.obs[b, y : y + 16, x : x + 16]
        for b, (y, x) in enumerate(np.asarray(CURL_DRAWS.positive))
    ]
    feat = encode(CURL, state.slow_encoder, jnp.stack(rows))
    expected = CURL.critic.apply(state.slow_critic, feat, method="embed")
    assert_near(trace.values["positive"], expected)


def test_noise_is_clipped_and_the_clamp_lets_gradients_through() -> None:
    mean, noise = jnp.asarray([0.0, 0.9, -0.5]), jnp.asarray([10.0, 10.0, -0.1])
    action = noisy_action(mean, jnp.asarray(1.0), noise, 0.3)
    np.testing.assert_allclose(action, [0.3, 1.0 - 1e-6, -0.6], rtol=1e-6)
    slope = jax.grad(lambda mean: noisy_action(mean, jnp.asarray(1.0), noise, 0.3).sum())(mean)
    np.testing.assert_array_equal(slope, np.ones(3))


def test_noise_shrinks_in_a_straight_line_and_stays() -> None:
    steps = jnp.asarray([0.0, 100_000.0, 250_000.0, 1e7])
    np.testing.assert_allclose(
        exploration_std(steps, 1.0, 0.1, 250_000.0), [1.0, 0.64, 0.1, 0.1], rtol=1e-6
    )


def test_squashed_log_density_is_that_of_the_change_of_variables() -> None:
    outputs, noise = 0.3 * normal(B, 2 * A), normal(B, A)
    found = squashed_action(CURL, outputs, noise)
    mean, std = outputs[:, :A], jnp.exp(found["log_std"])
    assert np.all(found["log_std"] > -10.0) and np.all(found["log_std"] < 2.0)
    raw = jnp.arctanh(found["action"])
    density = -0.5 * ((raw - mean) / std) ** 2 - jnp.log(std) - 0.5 * np.log(2 * np.pi)
    slope = jnp.log(1.0 - found["action"] ** 2)
    keep = np.all(np.abs(found["action"]) < 0.99, axis=1)
    assert np.any(keep)
    expected = np.sum(np.asarray(density - slope), axis=1)
    np.testing.assert_allclose(found["log_prob"][keep], expected[keep], atol=2e-3)


def test_the_feature_agent_uses_the_critic_from_before_its_step() -> None:
    agent = FeatureAgent(
        FeatureActor(A, 1, 8), FeatureCritic(1, 8), optax.sgd(0.1), optax.sgd(100.0)
    )
    state = init_features(agent, jax.random.key(0), 5, A)
    batch = Transitions(normal(B, 5), normal(B, A), normal(B), jnp.full(B, 0.9), normal(B, 5))
    assert moved(state, state._replace(slow_critic=state.critic)) == {"slow_critic"}
    _, trace = jax.jit(partial(update_features, agent))(state, batch)
    action = agent.actor.apply(state.actor, batch.obs)
    q = agent.critic.apply(state.critic, batch.obs, action)
    assert_near(trace.values["actor_loss"], -jnp.min(q, axis=0))
