"""Multi-Task DV2: what a joint batch is made of, and which parameters each part reaches."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from coworld_jax import parallel
from coworld_jax.methods import METHODS
from coworld_jax.methods.multitask import joint_batch, target_chunks

SETTINGS = tiny.OTHERS["multitask"]


def test_a_joint_batch_mixes_the_chunks_of_both_domains():
    source, target = tiny.batch(0), tiny.batch(1)
    joint = joint_batch(source, target, target_chunks(SETTINGS, 2))
    np.testing.assert_array_equal(joint.reward[:, 0], source.reward[:, 0])
    np.testing.assert_array_equal(joint.image[:, 1], target.image[:, 1])
    assert joint.action.shape == source.action.shape


def test_devices_share_the_pattern_of_a_batch():
    quarter = replace(SETTINGS, target_share=0.25)
    whole = target_chunks(quarter, 16)
    assert whole.sum() == 4 and np.array_equal(whole, np.tile(target_chunks(quarter, 4), 4))
    with pytest.raises(ValueError, match="target_share is 0.25 of 2 chunks"):
        target_chunks(quarter, 2)


@pytest.mark.parametrize(("share", "batch", "count"), [(0.14, 50, 7), (0.58, 50, 29)])
def test_a_whole_number_of_chunks_is_accepted_in_spite_of_rounding(share, batch, count):
    assert share * batch != count  # in floating point
    assert target_chunks(replace(SETTINGS, target_share=share), batch).sum() == count


def test_cores_that_would_part_the_pattern_of_a_batch_are_not_taken():
    quarter = replace(SETTINGS, target_share=0.25, learning=replace(SETTINGS.learning, batch=4))
    method = METHODS["multitask"].make(quarter, tiny.domains())
    assert parallel.make_mesh(0, method.batch, shares=method.shares) is None


@pytest.fixture(scope="module")
def updated():
    """One update, and the same with other rewards in the target's chunk."""
    method = METHODS["multitask"].make(SETTINGS, tiny.domains())
    state = jax.jit(method.init)(jax.random.key(3))
    update = jax.jit(method.updates["joint"])
    source, target = tiny.batch(0), tiny.batch(1)
    other = target._replace(reward=target.reward + 3.0)
    run = lambda batch: update(  # noqa: E731
        state, {"source": source, "target": batch}, jax.random.key(0), jnp.int32(0)
    )
    return state, run(target), run(other)


def same(one, two):
    """Whether two trees are bit-identical."""
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two)))


def test_a_separate_head_learns_the_targets_rewards_alone(updated):
    _, (one, _), (two, _) = updated
    assert not same(one.world_model["target_reward"], two.world_model["target_reward"])
    moments = [state.world_model_opt[1].mu for state in (one, two)]
    # The clip of the joint gradient's norm scales both; the directions of the source's head agree.
    first, second = (np.asarray(jax.tree.leaves(m["reward"])[-1]).ravel() for m in moments)
    np.testing.assert_allclose(
        first / np.linalg.norm(first), second / np.linalg.norm(second), atol=1e-4
    )


def test_every_part_learns(updated):
    state, (one, metrics), _ = updated
    for old, new in (
        (state.world_model, one.world_model),
        (state.source.actor, one.source.actor),
        (state.source.critic, one.source.critic),
        (state.target.actor, one.target.actor),
        (state.target.critic, one.target.critic),
    ):
        assert not same(old, new)
    assert {"source/model/reward", "source/actor/loss", "target/critic/loss"} <= metrics.keys()


def test_a_share_that_leaves_a_domain_without_a_chunk_is_refused():
    with pytest.raises(ValueError, match=r"target_share is 0.1 of 2 chunks"):
        METHODS["multitask"].make(replace(SETTINGS, target_share=0.1), tiny.domains())
