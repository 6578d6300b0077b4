"""Offline DV2: heads, penalties, and what its updates leave as it is.

Whole runs of the method are in test_train_methods.py, what it shares with all others in
test_contract.py.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from tiny import close
from tiny_ensembles import assert_two_devices_learn_as_one_does, drawn_and_trained

from coworld_jax.agents.dreamer.world_model import without_stats
from coworld_jax.agents.offline_dv2 import agent as offline
from coworld_jax.agents.offline_dv2 import behavior
from coworld_jax.networks import recurrence
from coworld_jax.records.leaves import state_digest

OFFLINE = tiny.OTHERS["offline_dv2"]


@functools.cache
def offline_agent(penalty: str = "mean_distance", scale: float = 10.0, **learning: Any) -> Any:
    """The agent, and a fresh state."""
    settings = replace(OFFLINE.learning, **learning)
    agent = offline.make_agent(OFFLINE.network, settings, (penalty, scale), tiny.ACTION)
    return agent, jax.jit(lambda key: offline.init_agent(agent, key))(jax.random.key(1))


def test_only_heads_that_were_drawn_are_trained() -> None:
    # Adam's steps have the size of the rate wherever a gradient is; decay would move all.
    agent, state = offline_agent(free_nats=0.0, weight_decay=0.0)
    drawn, trained = drawn_and_trained(agent, state, offline.update_world_model)
    for layer, heads in trained.items():
        assert heads == drawn, layer


@functools.cache
def observed() -> Any:
    """What a fresh agent filters from a batch; the penalty has no part in it."""
    agent, state = offline_agent()
    run = jax.jit(lambda model: offline.observe(agent, model, tiny.batch(0), jax.random.key(0)))
    return run(state.model)[0]


def actor_gradient(penalty: str, scale: float) -> tuple[Any, dict[str, jax.Array]]:
    """Of one imagined batch."""
    agent, state = offline_agent(penalty, scale)
    rows, horizon = 6, agent.learning.horizon
    rng = np.random.default_rng(0)
    rssm, model = agent.model.rssm, {k: state.model[k] for k in ("rssm", "reward")}
    # Not the first rows: there the recurrent state of a fresh model is zero for all heads.
    post = without_stats(observed().post)
    start = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[-rows:], post)
    noise = tuple(
        jnp.asarray(rng.uniform(size=(horizon, rows, size)), jnp.float32)
        for size in (rssm.groups, tiny.ACTION)
    )

    @jax.jit
    def gradient(actor: Any) -> tuple[Any, dict[str, jax.Array]]:
        def mean(actor: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
            loss, made = behavior.actor_loss(
                actor, agent.behavior, state.behavior, model, start, jnp.asarray([1, 2]), noise
            )
            return loss.mean(), {name: made[name] for name in ("reward", "plain_reward", "penalty")}

        return jax.grad(mean, has_aux=True)(actor)

    return gradient(state.behavior.actor)


@pytest.mark.parametrize(
    "penalty", ["mean_distance", pytest.param("log_prob", marks=pytest.mark.slow)]
)
def test_a_penalty_lowers_rewards_and_steers_the_actor(penalty: str) -> None:
    free, without = actor_gradient(penalty, 0.0)
    steered, made = actor_gradient(penalty, 10.0)
    assert np.all(made["penalty"] > 0.0)
    wanted = made["plain_reward"] - 10.0 * made["penalty"]
    np.testing.assert_allclose(made["reward"], wanted, rtol=1e-5)
    np.testing.assert_array_equal(without["reward"], without["plain_reward"])
    # A penalty that is no function of the actions would leave the gradient as it is.
    gap = jax.tree.map(lambda a, b: float(jnp.max(jnp.abs(a - b))), steered, free)
    assert max(jax.tree.leaves(gap)) > 1e-4


def test_the_actor_learns_the_same_in_a_gpus_form_of_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected, _ = actor_gradient("mean_distance", 10.0)
    form = recurrence.FORMS["gpu"]
    monkeypatch.setattr(recurrence, "form", lambda: form)
    found, _ = actor_gradient("mean_distance", 10.0)
    close(found, expected, 1e-5)


def test_no_penalty_is_none() -> None:
    _, made = actor_gradient("none", 10.0)
    assert not np.any(made["penalty"])
    np.testing.assert_array_equal(made["reward"], made["plain_reward"])


def test_the_behaviour_leaves_the_model_as_it_is() -> None:
    agent, state = offline_agent()
    run = jax.jit(functools.partial(offline.update_behavior, agent))
    after, _ = run(state, tiny.batch(0), jax.random.key(2), jnp.int32(0))
    for part in ("model", "model_opt"):
        assert state_digest(getattr(after, part)) == state_digest(getattr(state, part))
    old, new = state.behavior, after.behavior
    assert state_digest(new.actor) != state_digest(old.actor)
    # The slow critic is copied after the first update, and then not for a while.
    assert state_digest(new.slow_critic) == state_digest(new.critic)
    later, _ = run(after, tiny.batch(1), jax.random.key(3), jnp.int32(1))
    assert state_digest(later.behavior.slow_critic) == state_digest(new.slow_critic)
    assert state_digest(later.behavior.critic) != state_digest(new.critic)


def test_the_first_action_of_a_chunk_counts_for_offline_dv2_not_at_all() -> None:
    agent, state = offline_agent()
    chunk = tiny.batch(0)
    seen = jax.jit(lambda b: offline.observe(agent, state.model, b, jax.random.key(0))[0].feat)
    other = chunk._replace(action=chunk.action.at[0].add(0.5))
    np.testing.assert_array_equal(seen(other), seen(chunk))
    other = chunk._replace(action=chunk.action.at[1].add(0.5))
    assert not np.array_equal(seen(other), seen(chunk))


@pytest.mark.parametrize("update", ["behavior", pytest.param("model", marks=pytest.mark.slow)])
def test_two_devices_learn_as_one_does(update: str) -> None:
    assert_two_devices_learn_as_one_does("offline_dv2", update)
