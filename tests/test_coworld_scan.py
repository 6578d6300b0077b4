"""How a scan runs CoWorld's updates of a phase."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from coworld_jax.method import TARGET
from coworld_jax.training.scan import run_updates, update_keys


@pytest.fixture(scope="module")
def scanned():
    """Three updates of the target phase in one scan: the method, the states around it, metrics."""
    method, state = tiny.start()
    after, metrics = tiny.scan(method, "target", 3, state, {TARGET: tiny.store(2)}, {})
    return method, state, after, metrics


def test_a_scanned_phase_equals_a_python_loop(scanned):
    method, _, wanted, metrics = scanned
    _, (learnt, clock) = tiny.start()
    step = jax.jit(method.updates["target"])
    for i in range(3):
        keys, key_update = update_keys(clock._replace(updates=jnp.int32(i)), (TARGET,))
        chunks = tiny.sample(tiny.store(2), keys[TARGET], tiny.TIME, tiny.BATCH)
        learnt, single = step(learnt, {TARGET: chunks}, key_update, jnp.int32(i))
        for name, value in single.items():
            np.testing.assert_allclose(metrics[name][i], value, rtol=1e-4, atol=1e-5, err_msg=name)
    for got, want in zip(jax.tree.leaves(learnt), jax.tree.leaves(wanted.learnt)):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
    assert int(wanted.clock.updates) == 3


@pytest.mark.slow
def test_chunks_of_one_equal_a_chunk_of_three(scanned):
    method, _, wanted, _ = scanned
    _, state = tiny.start()
    for _ in range(3):
        state, _ = tiny.scan(method, "target", 1, state, {TARGET: tiny.store(2)}, {})
    assert int(state.clock.updates) == 3
    for got, want in zip(jax.tree.leaves(state.learnt), jax.tree.leaves(wanted.learnt)):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


def test_a_scan_tells_its_update_how_many_came_before():
    """The count goes on from one call to the next; the update sees a traced value."""
    method, state = tiny.start()

    def update(learnt, batches, key, count, axis_name=None):
        assert isinstance(count, jax.core.Tracer) and set(batches) == {TARGET}
        return learnt, {"count": count}

    counting = method._replace(updates={"count": update})
    shape = (3, tiny.TIME, tiny.BATCH)
    after, metrics = run_updates(
        counting.updates["count"], state, {TARGET: tiny.store(2)}, {}, jnp.int32(7), shape=shape
    )
    np.testing.assert_array_equal(metrics["count"], [7, 8, 9])
    assert int(after.clock.updates) == 3


def test_a_phase_donates_its_state(scanned):
    _, state, _, _ = scanned
    assert jax.tree.leaves(state.learnt)[0].is_deleted()
