"""bfloat16 networks: how far they drift from float32, and what stays float32."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from coworld_jax.method import TARGET

UPDATES = 8


def after_updates(dtype):
    """State and metrics of the target after a few updates on the same batches and noise."""
    network = {"dtype": dtype, "depth": 2, "deter": 16, "hidden": 16, "units": 16}
    method, state = tiny.start(tiny.with_settings(network=network))
    state, metrics = tiny.scan(method, "target", UPDATES, state, {TARGET: tiny.store(2)}, {})
    return state.learnt, metrics


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def both():
    return after_updates("float32"), after_updates("bfloat16")


def test_losses_drift_by_two_percent_at_most(both):
    (_, exact), (_, rounded) = both
    for name in ("model/image", "model/reward", "model/kl_mean", "model/alignment", "critic/loss"):
        want, have = (np.asarray(m[f"target/{name}"]) for m in (exact, rounded))
        np.testing.assert_allclose(have, want, rtol=0.02, atol=0.02, err_msg=name)
    # The two differ at all: the networks did compute in bfloat16.
    assert np.any(exact["target/model/loss"] != rounded["target/model/loss"])


@pytest.mark.parametrize("part", ["world_model", "actor", "critic"])
def test_gradients_keep_their_direction(both, part):
    # Adam's first moment is a mean of the gradients: the angle between the two, as a cosine.
    (exact, _), (rounded, _) = both
    one, other = (
        jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(moment(state.target, part))])
        for state in (exact, rounded)
    )
    cosine = jnp.vdot(one, other) / (jnp.linalg.norm(one) * jnp.linalg.norm(other))
    assert cosine > 0.99


def test_parameters_moments_and_losses_stay_float32(both):
    (exact, _), (state, metrics) = both
    wanted = [leaf.dtype for leaf in jax.tree.leaves(exact)]
    assert [leaf.dtype for leaf in jax.tree.leaves(state)] == wanted
    assert all(value.dtype == jnp.float32 for value in metrics.values())


def moment(target, part):
    """Adam's first moment for one network of an agent."""
    _, adam, *_ = getattr(target, f"{part}_opt")
    return adam.mu
