"""Two devices compute what one does: jit over a mesh, pmap, resident and streamed feeds."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from coworld_jax import parallel
from coworld_jax.coworld import SOURCE, TARGET
from coworld_jax.phases import make_update, update_keys
from coworld_jax.store import sample

UPDATES = 3
SIZES = {"updates": UPDATES, "length": tiny.TIME, "batch": tiny.BATCH}


@pytest.fixture(scope="module")
def update():
    method, _ = tiny.make(tiny.categorical())
    return make_update(method, "target", 0, False)


def stores():
    return {TARGET: tiny.store(2)}


@pytest.fixture(scope="module")
def single(update):
    _, state = tiny.make(tiny.categorical())
    return parallel.compile_phase(update, **SIZES, mesh=None)(state, stores(), {})


def assert_close(result, reference):
    (state, metrics), (wanted_state, wanted_metrics) = result, reference
    assert int(state.updates) == UPDATES
    for name, value in wanted_metrics.items():
        np.testing.assert_allclose(metrics[name], value, rtol=2e-4, atol=2e-5, err_msg=name)
    for got, wanted in zip(jax.tree.leaves(state.target), jax.tree.leaves(wanted_state.target)):
        np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-5)


def test_mesh_equals_single_device(update, single):
    mesh = parallel.make_mesh(2, tiny.BATCH)
    _, state = tiny.make(tiny.categorical())
    run = parallel.compile_phase(update, **SIZES, mesh=mesh)
    result = run(parallel.replicate(state, mesh), parallel.replicate(stores(), mesh), {})
    assert_close(result, single)


def streams(key):
    """The batches that the updates would sample from the resident stores."""
    keys = [update_keys(key, jnp.int32(i))[0][TARGET] for i in range(UPDATES)]
    batches = [sample(tiny.store(2), key, tiny.TIME, tiny.BATCH) for key in keys]
    return {TARGET: jax.tree.map(lambda *leaves: jnp.stack(leaves), *batches)}


def test_streamed_batches_equal_resident_ones(update, single):
    mesh = parallel.make_mesh(2, tiny.BATCH)
    _, state = tiny.make(tiny.categorical())
    streamed = streams(state.key)
    run = parallel.compile_phase(update, **SIZES, mesh=mesh)
    assert_close(run(parallel.replicate(state, mesh), {}, streamed), single)


def test_pmap_equals_single_device(update, single):
    _, state = tiny.make(tiny.categorical())
    run = parallel.pmap_phase(update, **SIZES, devices=2)
    assert_close(run(state, stores(), {}), single)
    assert_close(run(state, {}, streams(state.key)), single)


@pytest.mark.slow
@pytest.mark.parametrize("state_size", [0, 5])
def test_source_phase_with_coupling_b_on_two_devices(state_size):
    method, state = tiny.make(state_size=state_size)
    update = make_update(method, "source", 0, True)
    data = {SOURCE: tiny.store(1, state_size=state_size), TARGET: tiny.store(2)}
    wanted, _ = parallel.compile_phase(update, **SIZES, mesh=None)(state, data, {})
    mesh = parallel.make_mesh(0, tiny.BATCH)
    _, state = tiny.make(state_size=state_size)
    run = parallel.compile_phase(update, **SIZES, mesh=mesh)
    got, _ = run(parallel.replicate(state, mesh), parallel.replicate(data, mesh), {})
    for a, b in zip(jax.tree.leaves(got.sources), jax.tree.leaves(wanted.sources)):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_unequal_shares_are_refused():
    with pytest.raises(ValueError, match=r"learning.batch is 3.*2 devices.*run.devices to 1"):
        parallel.make_mesh(0, 3)
    with pytest.raises(ValueError, match=r"run.devices is 9, but there are 2"):
        parallel.make_mesh(9, 18)
