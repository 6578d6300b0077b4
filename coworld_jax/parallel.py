"""One program on several devices: the only place that knows meshes and `jax.pmap`.

Every device holds the whole state and the whole store, takes its share of each batch, and averages
gradients over the axis `AXIS`. Noise belongs to examples and not to devices, so that any number of
devices computes the same update up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from coworld_jax.coworld import CoWorldState
from coworld_jax.phases import Update, run_phase
from coworld_jax.store import EpisodeStore
from coworld_jax.types import Batch, Metrics

AXIS = "devices"
Tree = TypeVar("Tree")
# (state, resident stores, streamed batches) -> (state, metrics of each update); see `run_phase`
RunPhase = Callable[
    [CoWorldState, Mapping[str, EpisodeStore], Mapping[str, Batch]], tuple[CoWorldState, Metrics]
]


def make_mesh(devices: int, batch: int) -> Mesh | None:
    """A mesh of the first ``devices`` local devices (0: all of them), or None for a single one.

    Raises:
        ValueError: fewer devices than asked for, or a batch that they cannot share equally.
    """
    local = jax.local_devices()
    count = len(local) if devices == 0 else devices
    if count > len(local):
        raise ValueError(f"run.devices is {count}, but there are {len(local)}: use 0 for all.")
    if batch % count:
        fitting = [n for n in range(1, count + 1) if batch % n == 0][-1]
        raise ValueError(
            f"learning.batch is {batch}, which {count} devices cannot share equally: use a "
            f"multiple of {count}, or set run.devices to {fitting}."
        )
    return None if count == 1 else Mesh(np.array(local[:count]), (AXIS,))


def replicate(tree: Tree, mesh: Mesh | None) -> Tree:
    """``tree`` on every device of the mesh, as `compile_phase` wants its stores and state."""
    return tree if mesh is None else jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def shapes_on_one_device(make: Callable[[], Tree]) -> Tree:
    """Shapes of ``make()``, nothing computed, for a restore onto the first local device."""
    device = SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device),
        jax.eval_shape(make),
    )


def compile_phase(
    update: Update, *, updates: int, length: int, batch: int, mesh: Mesh | None
) -> jax.stages.Wrapped:
    """`phases.run_phase` as one jitted call that overwrites (donates) the state it is given.

    Returns:
        A `RunPhase` that can also be lowered and compiled before it runs.
    """
    sizes: dict[str, Any] = {"updates": updates, "length": length, "batch": batch}

    def run(
        state: CoWorldState, resident: Mapping[str, EpisodeStore], streamed: Mapping[str, Batch]
    ) -> tuple[CoWorldState, Metrics]:
        axis_name = None if mesh is None else AXIS
        return run_phase(update, state, resident, streamed, **sizes, axis_name=axis_name)

    if mesh is None:
        return jax.jit(run, donate_argnums=0)
    whole, shared = PartitionSpec(), PartitionSpec(None, None, AXIS)
    # Averages are explicit in the updates (axis_name), as pmap needs them too; check_vma=False
    # keeps shard_map from adding its own.
    mapped = jax.shard_map(
        run, mesh=mesh, in_specs=(whole, whole, shared), out_specs=(whole, whole), check_vma=False
    )
    return jax.jit(mapped, donate_argnums=0)


def pmap_phase(update: Update, *, updates: int, length: int, batch: int, devices: int) -> RunPhase:
    """`phases.run_phase` under `jax.pmap`, for code that is built on it; donates nothing.

    Same arguments and results as `compile_phase`: state and stores without a device axis.
    """

    def run(
        device: jax.Array,  # pmap counts its devices by a mapped argument
        state: CoWorldState,
        resident: Mapping[str, EpisodeStore],
        streamed: Mapping[str, Batch],
    ) -> tuple[CoWorldState, Metrics]:
        return run_phase(
            update,
            state,
            resident,
            streamed,
            updates=updates,
            length=length,
            batch=batch,
            axis_name=AXIS,
        )

    mapped = jax.pmap(
        run,
        axis_name=AXIS,
        in_axes=(0, None, None, 0),
        out_axes=(None, None),
        devices=jax.local_devices()[:devices],
    )

    def split(chunks: jax.Array) -> jax.Array:
        shape = (*chunks.shape[:2], devices, chunks.shape[2] // devices, *chunks.shape[3:])
        return chunks.reshape(shape).transpose(2, 0, 1, *range(3, len(shape)))

    index = np.arange(devices)
    return lambda state, resident, streamed: mapped(
        index, state, resident, jax.tree.map(split, streamed)
    )
