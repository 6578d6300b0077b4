"""LOMPO and LOMPO Finetune: heads, buffers, imagined steps, the change of domain.

Whole runs of these methods are in test_train_methods.py, what they share with all others in
test_contract.py. Settings that are refused are here for Offline DV2, too.
"""

from __future__ import annotations

import functools
from collections import deque
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from tiny_ensembles import (
    assert_two_devices_learn_as_one_does,
    drawn_and_trained,
    fresh,
    method_of,
)

from coworld_jax import fields, parallel
from coworld_jax.agents import ensemble, lompo
from coworld_jax.agents.dreamer import probing
from coworld_jax.agents.lompo import buffer, updates
from coworld_jax.method import TARGET, Domain
from coworld_jax.methods import METHODS
from coworld_jax.records.leaves import state_digest
from coworld_jax.training.scan import run_updates
from coworld_jax.types import Batch

LOMPO = tiny.OTHERS["lompo"]
FINETUNE = tiny.OTHERS["lompo_finetune"]
OFFLINE = tiny.OTHERS["offline_dv2"]


@functools.cache
def lompo_agent(taken: int = tiny.ACTION, **imagination: Any) -> Any:
    """The agent, and a fresh state."""
    agent = lompo.make_lompo_agent(
        LOMPO.network,
        LOMPO.learning,
        replace(LOMPO.imagination, **imagination),
        LOMPO.buffers,
        tiny.ACTION,
        taken,
    )
    return agent, jax.jit(lambda key: lompo.init_lompo(agent, key))(jax.random.key(1))


def twins(seed: int) -> Batch:
    """A batch whose chunks are all the same."""
    return jax.tree.map(lambda x: jnp.broadcast_to(x[:, :1], x.shape), tiny.batch(seed))


# --- heads ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_only_heads_that_were_drawn_are_trained() -> None:
    drawn, trained = drawn_and_trained(*lompo_agent(), updates.update_model)
    for layer, heads in trained.items():
        assert heads == drawn, layer


def test_each_step_is_predicted_by_its_own_head() -> None:
    agent, state = lompo_agent()
    rssm, params = agent.model.rssm, state.model["rssm"]
    rng = np.random.default_rng(0)
    embed, action, noise = (
        jnp.asarray(rng.normal(size=(tiny.TIME, tiny.BATCH, size)), jnp.float32)
        for size in (rssm.embed, tiny.ACTION, rssm.groups)
    )
    heads = jnp.asarray([2, 0, 2, 1])
    first = jnp.zeros((tiny.TIME, tiny.BATCH), bool)
    observe = jax.jit(functools.partial(ensemble.observe, rssm))
    seen = observe(params, embed, action, first, heads, noise)
    priors = jax.jit(functools.partial(rssm.apply, method="priors"))
    for t, head in enumerate(heads):
        every = priors(params, seen.post.deter[t])
        np.testing.assert_allclose(seen.prior["mean"][t], every["mean"][head], rtol=1e-5, atol=1e-6)
        assert not np.allclose(seen.prior["mean"][t], every["mean"][head - 1])


# --- the ring -------------------------------------------------------------------------------------


def numbered(first: int, count: int, length: int) -> buffer.Sequences:
    """Sequences whose features, actions and rewards are their own numbers."""
    index = first + jnp.arange(count, dtype=jnp.float32)[:, None]
    place = jnp.broadcast_to(100.0 * index + jnp.arange(length + 1.0)[None], (count, length + 1))
    return buffer.Sequences(
        feat=jnp.stack([place, -place], axis=-1),
        action=place[:, :-1, None] + 0.25,
        reward=place[:, :-1] + 0.5,
    )


def test_a_ring_holds_what_a_loop_of_a_queue_holds() -> None:
    capacity, block, length = 6, 2, 3
    ring, queue = buffer.init_ring(capacity, length, 2, 1), deque(maxlen=capacity)
    write = jax.jit(buffer.write)
    for step in range(7):
        new = numbered(step * block, block, length)
        ring = write(ring, new)
        queue.extend(np.asarray(new.reward))
        assert int(ring.filled) == len(queue)
        assert int(ring.position) == (step + 1) * block % capacity
        held = np.asarray(ring.rows.reward[: int(ring.filled)])
        assert {row.tobytes() for row in held} == {row.tobytes() for row in queue}


def test_a_sample_is_a_step_and_the_feature_that_follows_it() -> None:
    ring = buffer.write(buffer.init_ring(8, 3, 2, 1), numbered(0, 4, 3))
    steps = jax.jit(lambda key: buffer.sample(ring, key, 400, 0.9))(jax.random.key(0))
    np.testing.assert_array_equal(steps.next_obs[:, 0], steps.obs[:, 0] + 1.0)
    np.testing.assert_array_equal(steps.action[:, 0], steps.obs[:, 0] + 0.25)
    np.testing.assert_array_equal(steps.reward, steps.obs[:, 0] + 0.5)
    np.testing.assert_array_equal(steps.discount, np.full(400, 0.9, np.float32))
    # Every step of the four sequences that are there, and none of the empty ones.
    wanted = {100.0 * sequence + step for sequence in range(4) for step in range(3)}
    assert set(np.asarray(steps.obs[:, 0]).tolist()) == wanted


def test_blocks_that_would_wrap_around_are_refused() -> None:
    with pytest.raises(AssertionError):
        buffer.write(buffer.init_ring(5, 3, 2, 1), numbered(0, 2, 3))


# --- LOMPO ----------------------------------------------------------------------------------------


def test_encoded_chunks_pair_a_row_with_the_action_that_leaves_it() -> None:
    agent, state = lompo_agent()
    chunk = tiny.batch(0)
    after, metrics = jax.jit(functools.partial(updates.update_real, agent))(
        state, chunk, jax.random.key(0)
    )
    rows = after.real.rows
    for b in range(tiny.BATCH):
        np.testing.assert_array_equal(rows.action[b], chunk.action[1:, b])
        np.testing.assert_array_equal(rows.reward[b], chunk.reward[1:, b])
    assert rows.feat.shape[1:] == (tiny.TIME, agent.feature_size)
    assert metrics["buffer/real_steps"] == tiny.BATCH * (tiny.TIME - 1)
    assert state_digest(after.imagined) == state_digest(state.imagined)


@pytest.mark.parametrize("shared", [False, True])
def test_noise_is_shared_by_all_rows_or_belongs_to_each(shared: bool) -> None:
    agent, state = lompo_agent(shared_noise=shared, noise_scale=0.0)
    encoded, _ = jax.jit(functools.partial(updates.update_real, agent))(
        state, twins(0), jax.random.key(0)
    )
    made, _ = jax.jit(functools.partial(updates.update_imagined, agent))(
        state, twins(0), jax.random.key(0)
    )
    assert tiny.BATCH == 2
    pairs = [
        encoded.real.rows.feat[:2],  # the same chunk twice
        made.imagined.rows.feat[:2],  # rollouts from the first row of both
    ]
    for one, other in pairs:
        assert np.array_equal(one, other) == shared
    # Time steps never share.
    assert not np.allclose(pairs[0][0, 1], pairs[0][0, 2])


def test_imagined_rewards_are_less_by_the_penalty() -> None:
    plain, priced = (
        jax.jit(functools.partial(updates.update_imagined, agent))(
            state, tiny.batch(0), jax.random.key(0)
        )
        for agent, state in (lompo_agent(penalty_scale=0.0), lompo_agent(penalty_scale=2.0))
    )
    count = tiny.TIME * tiny.BATCH
    gap = (plain[0].imagined.rows.reward - priced[0].imagined.rows.reward)[:count]
    assert np.all(gap > 0.0)
    np.testing.assert_allclose(gap.mean(), 2.0 * priced[1]["buffer/penalty"], rtol=1e-3)


@functools.cache
def agent_update() -> Any:
    return jax.jit(method_of("lompo").updates["target agent"])


@functools.cache
def filled_state() -> Any:
    """LOMPO with sequences in both buffers."""
    agent, state = lompo_agent()
    for index, update in enumerate((updates.update_real, updates.update_imagined)):
        run = jax.jit(functools.partial(update, agent))
        state, _ = run(state, tiny.batch(index), jax.random.key(index))
    return state


@pytest.mark.parametrize(("count", "due"), [(0, False), (1, True), (2, False), (3, True)])
def test_buffers_get_new_sequences_by_the_count(count: int, due: bool) -> None:
    state = filled_state()
    after, _ = agent_update()(state, {TARGET: tiny.batch(2)}, jax.random.key(1), jnp.int32(count))
    assert LOMPO.buffers.refresh_every == 2
    for ring in ("real", "imagined"):
        old, new = getattr(state, ring), getattr(after, ring)
        assert (state_digest(old) != state_digest(new)) == due
        if due:
            changed = np.flatnonzero(np.any(new.rows.reward != old.rows.reward, axis=1))
            block = tiny.BATCH * (1 if ring == "real" else tiny.TIME)
            start = int(old.position)
            assert changed.tolist() == list(range(start, start + block))
    for part in ("model", "model_opt"):
        assert state_digest(getattr(after, part)) == state_digest(getattr(state, part))


@pytest.mark.slow
def test_a_scan_in_pieces_is_the_scan_in_one() -> None:
    """The buffers are due at every second update: in the middle of the scan, or in its own."""
    method = method_of("lompo")
    resident = {TARGET: tiny.store(0)}

    def learn(*pieces: int) -> str:
        state, done = fresh(method), 0
        shape = (pieces[0], method.length, method.batch)
        run = jax.jit(functools.partial(run_updates, method.updates["target agent"], shape=shape))
        for piece in pieces:
            state, _ = run(state, resident, {}, jnp.int32(done))
            done += piece
        return state_digest(state.learnt)

    assert learn(4) == learn(2, 2)


@pytest.mark.parametrize("update", ["target agent", "target imagine", "target model"])
@pytest.mark.slow
def test_two_devices_learn_as_one_does(update: str) -> None:
    assert_two_devices_learn_as_one_does("lompo", update)


def test_devices_that_cannot_share_the_agents_batch_are_told_so() -> None:
    settings = replace(LOMPO, learning=replace(LOMPO.learning, agent_batch=3))
    method = METHODS["lompo"].make(settings, tiny.domains())
    assert parallel.make_mesh(0, method.batch, shares=method.shares) is None  # cores: one alone
    mesh = parallel.make_mesh(2, method.batch)
    state, resident = parallel.replicate((fresh(method), {TARGET: tiny.store(0)}), mesh)
    with pytest.raises(ValueError, match="learning.agent_batch is 3, which 2 devices"):
        tiny.scan(method, "target agent", 1, state, resident, {}, mesh)


def test_the_value_of_a_row_is_that_of_the_action_which_led_to_it() -> None:
    agent, state = lompo_agent()
    batch, acting = tiny.batch(3), lompo.make_acting(agent)
    player = ensemble.playing.make_player(acting, lompo.pick)
    key, learnt = jax.random.key(0), lompo.pick(state)
    found = player.values(state, batch.image, batch.action, key)["critic"]
    feat = probing.episode_features(
        acting.model, learnt.world_model, batch.image, batch.action, key
    )
    critic = functools.partial(agent.agent.critic.apply, learnt.critic)
    wanted = critic(feat[:-1], batch.action[1:]).min(axis=0)
    np.testing.assert_allclose(found[1:], wanted, rtol=1e-5, atol=1e-6)
    own = agent.agent.actor.apply(learnt.actor, feat[0])
    wanted = acting.discount * critic(feat[0], own).min(axis=0)
    np.testing.assert_allclose(found[0], wanted, rtol=1e-5, atol=1e-6)


# --- LOMPO Finetune -------------------------------------------------------------------------------


@pytest.mark.parametrize("moments", ["fresh", "kept"])
@pytest.mark.slow
def test_the_change_of_domain_empties_the_buffers_and_keeps_the_weights(moments: str) -> None:
    method = METHODS["lompo_finetune"].make(replace(FINETUNE, moments=moments), tiny.domains())
    state = jax.jit(method.init)(jax.random.key(0))
    # As after a source half: nothing is zero any more.
    state = state._replace(lompo=jax.tree.map(lambda leaf: leaf + 1, state.lompo))
    after, _ = jax.jit(method.updates["change"])(state, {}, jax.random.key(2), jnp.int32(0))
    assert int(after.lompo.real.filled) == 0 and not np.any(after.lompo.real.rows.feat)
    for old, new in (
        (state.online, after.online),
        (state.lompo.model, after.lompo.model),
        (state.lompo.agent[:3], after.lompo.agent[:3]),
    ):
        assert state_digest(new) == state_digest(old)
    kept = state_digest(after.lompo.model_opt) == state_digest(state.lompo.model_opt)
    assert kept == (moments == "kept")
    kept = state_digest(after.lompo.agent.critic_opt) == state_digest(state.lompo.agent.critic_opt)
    assert kept == (moments == "kept")


@pytest.mark.slow
def test_a_domain_with_fewer_actions_makes_up_no_others() -> None:
    domains = tiny.domains() | {"source": Domain(2, 0, 10)}
    method = METHODS["lompo_finetune"].make(FINETUNE, domains)
    state = jax.jit(method.init)(jax.random.key(0))
    for domain in ("source", TARGET):
        run = jax.jit(method.updates[f"{domain} imagine"])
        after, _ = run(state, {domain: tiny.batch(0)}, jax.random.key(1), jnp.int32(0))
        action = after.lompo.imagined.rows.action[: tiny.TIME * tiny.BATCH]
        assert np.all(action[..., :2] != 0.0)
        assert np.any(action[..., 2] != 0.0) == (domain == TARGET)


def test_the_source_is_played_by_an_agent_or_at_random() -> None:
    online, none = (
        METHODS["lompo_finetune"].make(replace(FINETUNE, source_updates=n), tiny.domains()).plan
        for n in (2, 0)
    )
    assert [phase.env_steps for phase in online if phase.plays] == [20, 10]
    assert [phase.env_steps for phase in none if phase.plays] == [20]
    assert [phase.name for phase in online if phase.scores] == ["play the source", "target: agent"]


def test_settings_that_do_not_fit_together_are_refused() -> None:
    learning = replace(FINETUNE.learning, batch=6)
    with pytest.raises(ValueError, match="online.learning.batch is 2, but learning.batch is 6"):
        fields.check(replace(FINETUNE, learning=learning))
    with pytest.raises(ValueError, match="learning.length is 1: it must be at least 2"):
        fields.check(replace(LOMPO, learning=replace(LOMPO.learning, length=1)))
    with pytest.raises(ValueError, match="learning.horizon is 1: it must be at least 2"):
        fields.check(replace(OFFLINE, learning=replace(OFFLINE.learning, horizon=1)))
    online = replace(FINETUNE.online, learning=replace(FINETUNE.online.learning, horizon=1))
    with pytest.raises(ValueError, match=r"^online\.learning\.horizon is 1: it must be at least 2"):
        fields.check(replace(FINETUNE, online=online))
    with pytest.raises(ValueError, match="penalty is 'mixture'"):
        fields.check(replace(OFFLINE, penalty="mixture"))


def test_buffers_are_whole_batches_and_begin_no_fuller_than_they_can_be() -> None:
    sizes = replace(LOMPO.buffers, real_steps=13, imagined_steps=17, first_steps=1000)
    agent, _ = lompo_agent()
    agent = agent._replace(buffers=sizes)
    # 6 steps of encoded chunks and 16 imagined ones to a batch.
    assert (agent.real_blocks, agent.imagined_blocks, agent.first_blocks) == (3, 2, 2)
    real, imagined = lompo.empty_buffers(agent)
    assert real.rows.reward.shape == (3 * tiny.BATCH, tiny.TIME - 1)
    assert imagined.rows.reward.shape == (2 * tiny.TIME * tiny.BATCH, 2)
