"""Two devices compute what one does: jit over a mesh, pmap, resident and streamed feeds."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from jax.sharding import PartitionSpec as P

from coworld_jax import parallel
from coworld_jax.agents import gradient
from coworld_jax.agents.gradient import averaged
from coworld_jax.data import usable_cores
from coworld_jax.method import SOURCE, TARGET
from coworld_jax.training.loop import train
from coworld_jax.training.scan import update_keys
from coworld_jax.workdir import restore_run

UPDATES = 3


def stores():
    return {TARGET: tiny.store(2)}


def run(resident=None, streamed=None, devices=1, mapping="jit"):
    """Updates of the target phase on these data; all data resident if none are given."""
    method, state = tiny.start(tiny.categorical())
    mesh = parallel.make_mesh(devices, tiny.BATCH)
    resident = stores() if resident is None else resident
    return tiny.scan(
        method,
        "target",
        UPDATES,
        parallel.replicate(state, mesh),
        parallel.replicate(resident, mesh),
        {} if streamed is None else streamed,
        mesh,
        mapping,
    )


@pytest.fixture(scope="module")
def single():
    return run()


def assert_close(result, reference):
    (state, metrics), (wanted, wanted_metrics) = result, reference
    assert int(state.clock.updates) == UPDATES
    assert metrics.keys() == wanted_metrics.keys()
    for name, value in wanted_metrics.items():
        np.testing.assert_allclose(metrics[name], value, rtol=2e-4, atol=2e-5, err_msg=name)
    for got, want in zip(jax.tree.leaves(state.learnt), jax.tree.leaves(wanted.learnt)):
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-5)


def test_mesh_equals_single_device(single):
    assert_close(run(devices=2), single)


def streams():
    """The batches that the updates would sample from the resident stores."""
    _, (_, clock) = tiny.start(tiny.categorical())
    clocks = [clock._replace(updates=jnp.int32(i)) for i in range(UPDATES)]
    keys = [update_keys(clock, (TARGET,))[0][TARGET] for clock in clocks]
    batches = [tiny.sample(tiny.store(2), key, tiny.TIME, tiny.BATCH) for key in keys]
    return {TARGET: jax.tree.map(lambda *leaves: jnp.stack(leaves), *batches)}


@pytest.mark.slow
def test_streamed_batches_equal_resident_ones(single):
    assert_close(run({}, streams(), devices=2), single)


def test_arrays_of_all_sizes_and_types_are_averaged():
    """Small ones are put together for it; the order and the types of all come back."""
    whole = {
        "large": jnp.arange(2.0 * (gradient._SMALL + 1)).reshape(2, -1),
        "matrix": jnp.arange(12.0).reshape(2, 2, 3),
        "half": jnp.ones((2, 5), jnp.bfloat16),
        "number": jnp.array([1.0, 4.0]),
    }
    found = jax.vmap(lambda tree: averaged(tree, "devices"), axis_name="devices")(whole)
    assert {name: leaf.dtype for name, leaf in found.items()} == {
        name: leaf.dtype for name, leaf in whole.items()
    }
    for name, leaf in whole.items():
        np.testing.assert_array_equal(found[name][1], leaf.mean(axis=0), err_msg=name)


def test_devices_that_have_learnt_different_states_are_noticed():
    mesh = parallel.make_mesh(2, 2)
    parallel.check_equal(parallel.replicate({"equal": jnp.ones(3)}, mesh))
    apart = jax.shard_map(
        lambda x: x, mesh=mesh, in_specs=P(parallel.AXIS), out_specs=P(), check_vma=False
    )(jnp.arange(2.0))
    with pytest.raises(ValueError, match="must average its gradients over axis_name"):
        parallel.check_equal({"apart": apart})


def test_pmap_equals_single_device(single):
    """The state has no device axis, neither in nor out, and is on every device of the mesh."""
    result = run(devices=2, mapping="pmap")
    assert_close(result, single)
    _, before = tiny.start(tiny.categorical())
    for new, old in zip(jax.tree.leaves(result[0]), jax.tree.leaves(before), strict=True):
        assert new.shape == old.shape and len(new.devices()) == 2


@pytest.mark.slow
def test_pmap_of_streamed_batches_equals_single_device(single):
    assert_close(run({}, streams(), devices=2, mapping="pmap"), single)


@pytest.mark.slow
@pytest.mark.parametrize("state_size", [0, 5])
def test_source_phase_with_coupling_b_on_two_devices(state_size):
    data = {SOURCE: tiny.store(1, state_size=state_size), TARGET: tiny.store(2)}
    found = []
    for devices in (1, 2):
        mesh = parallel.make_mesh(devices, tiny.BATCH)
        method, state = tiny.start(state_size=state_size)
        state, _ = tiny.scan(
            method,
            "source aligned",
            UPDATES,
            parallel.replicate(state, mesh),
            parallel.replicate(data, mesh),
            {},
            mesh,
        )
        found.append(state.learnt.sources)
    for a, b in zip(jax.tree.leaves(found[1]), jax.tree.leaves(found[0])):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_train_with_pmap_equals_train_with_jit(tmp_path, monkeypatch):
    """A whole run on two devices: a replay that grows, evaluations, checkpoints."""
    monkeypatch.setenv("PYTHONPATH", "tests", prepend=":")
    config = replace(tiny.of_method("dreamer"), source=("toy_tasks:calm",), target="", data="")
    states = []
    for mapping in ("jit", "pmap"):
        workdir = tmp_path / mapping
        wanted = replace(config, run=replace(config.run, devices=2, mapping=mapping))
        summary = train(wanted, workdir)
        assert summary is not None and summary["updates"] == 6
        states.append(restore_run(workdir).state)
    for got, want in zip(jax.tree.leaves(states[1]), jax.tree.leaves(states[0]), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)


def test_loops_of_single_operations_stay_whole_where_cores_are_devices():
    x = jnp.ones((1000, 1000))

    def compiled(mesh):
        grow = lambda x: jnp.tanh(x) * 2.0 + x  # noqa: E731
        program = grow if mesh is None else parallel.share_batches(grow, mesh)
        return parallel.jit_donating(program, mesh).lower(x).compile().as_text()

    shared = '"outer_dimension_partitions":["'  # how XLA writes that threads share a loop
    assert shared not in compiled(parallel.make_mesh(2, 2))
    assert (shared in compiled(None)) == (usable_cores() > 1)


def test_as_many_cores_as_can_share_an_update_are_taken():
    assert parallel.make_mesh(0, 4).size == 2 and parallel.make_mesh(0, 3) is None
    assert parallel.make_mesh(0, 4, shares=3) is None


def test_unequal_shares_are_refused():
    with pytest.raises(ValueError, match=r"3 chunks.*2 devices.*run.devices to 1"):
        parallel.make_mesh(2, 3)
    with pytest.raises(ValueError, match=r"run.devices is 9, but there are 2"):
        parallel.make_mesh(9, 18)
