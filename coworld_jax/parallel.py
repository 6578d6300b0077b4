"""One program on several devices: the only place that knows meshes and `jax.pmap`.

Every device holds the whole state and the whole store, takes its share of each batch, and averages
gradients over the axis `AXIS`. Noise belongs to examples and not to devices, so that any number of
devices computes the same update up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

AXIS = "devices"
Tree = TypeVar("Tree")


class Program(Protocol):
    """A function of state, stores, streamed batches ``[K, T, B, ...]`` and a count."""

    def __call__(
        self, state: Any, resident: Any, streamed: Any, count: Any, *, axis_name: str | None
    ) -> tuple[Any, Any]: ...


Compiled = Callable[[Any, Any, Any, Any], tuple[Any, Any]]


def make_mesh(devices: int, batch: int) -> Mesh | None:
    """A mesh of the first ``devices`` local devices (0: all of them), or None for a single one.

    Raises:
        ValueError: fewer devices than asked for, or a batch that they cannot share equally.
    """
    local = _local_devices(devices)
    count = len(local)
    if batch % count:
        fitting = [n for n in range(1, count + 1) if batch % n == 0][-1]
        raise ValueError(
            f"A batch has {batch} chunks (learning.batch), which {count} devices cannot share "
            f"equally: use a multiple of {count}, or set run.devices to {fitting}."
        )
    return None if count == 1 else Mesh(np.array(local), (AXIS,))


def make_seed_mesh(devices: int, seeds: int) -> Mesh | None:
    """A mesh of as many local devices as can share ``seeds`` equally, or None for a single one.

    Args:
        devices: how many at most; 0 for all.

    Raises:
        ValueError: fewer devices than asked for.
    """
    local = _local_devices(devices)
    count = next(n for n in range(len(local), 0, -1) if seeds % n == 0)
    return None if count == 1 else Mesh(np.array(local[:count]), (AXIS,))


def _local_devices(devices: int) -> list[jax.Device]:
    """The first ``devices`` local devices; 0: all of them.

    Raises:
        ValueError: there are fewer.
    """
    local: list[jax.Device] = jax.local_devices()
    if devices > len(local):
        raise ValueError(f"run.devices is {devices}, but there are {len(local)}: use 0 for all.")
    return local[: devices or len(local)]


def share_seeds(tree: Tree, mesh: Mesh | None) -> Tree:
    """``tree``, whose leaves are ``[seeds, ...]``, shared by the devices of the mesh."""
    return tree if mesh is None else jax.device_put(tree, NamedSharding(mesh, PartitionSpec(AXIS)))


def split_seeds(run: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """``(carries, data, inputs, part) -> (carries, played)``, each device for its own seeds.

    Args:
        run: for seeds of one device; its second argument is common to all.
    """
    shared, whole = PartitionSpec(AXIS), PartitionSpec()
    return jax.shard_map(
        run,
        mesh=mesh,
        in_specs=(shared, whole, shared, shared),
        out_specs=(shared, shared),
        check_vma=False,
    )


def replicate(tree: Tree, mesh: Mesh | None) -> Tree:
    """``tree`` on every device of the mesh, as `compile_program` wants its stores and state."""
    return tree if mesh is None else jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def shapes_on_one_device(make: Callable[[], Tree]) -> Tree:
    """Shapes of ``make()``, nothing computed, for a restore onto the first local device."""
    device = SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device),
        jax.eval_shape(make),
    )


def compile_program(
    program: Program, arguments: tuple[Any, Any, Any, Any], mesh: Mesh | None, mapping: str
) -> Compiled:
    """``program`` compiled for arguments of these shapes.

    Args:
        program: run by every device on the whole state and stores and its share of the batches.
        arguments: state, resident stores, streamed batches and count, as it will be called.
        mesh: devices, or None for a single one.
        mapping: ``jit`` overwrites (donates) the state that it is given. ``pmap`` is for code that
            is built on it; the result is the same, but two states are in memory at once.
    """
    if mapping == "pmap":
        return _pmap(program, mesh)
    return spread(program, mesh).lower(*arguments).compile()


def spread(program: Program, mesh: Mesh | None) -> jax.stages.Wrapped:
    """``program`` as one jitted call over the mesh, which donates the state."""

    def run(state: Any, resident: Any, streamed: Any, count: Any) -> tuple[Any, Any]:
        axis_name = None if mesh is None else AXIS
        return program(state, resident, streamed, count, axis_name=axis_name)

    if mesh is None:
        return jax.jit(run, donate_argnums=0)
    whole, shared = PartitionSpec(), PartitionSpec(None, None, AXIS)
    # Averages are explicit in the updates (axis_name), as pmap needs them too; check_vma=False
    # keeps shard_map from adding its own.
    mapped = jax.shard_map(
        run,
        mesh=mesh,
        in_specs=(whole, whole, shared, whole),
        out_specs=(whole, whole),
        check_vma=False,
    )
    return jax.jit(mapped, donate_argnums=0)


def _pmap(program: Program, mesh: Mesh | None) -> Compiled:
    """``program`` under `jax.pmap`: state and stores without a device axis, in and out."""
    devices = jax.local_devices()[:1] if mesh is None else list(mesh.devices.flat)

    def run(
        device: jax.Array,  # pmap counts its devices by a mapped argument
        state: Any,
        resident: Any,
        streamed: Any,
        count: Any,
    ) -> tuple[Any, Any]:
        return program(state, resident, streamed, count, axis_name=AXIS)

    mapped = jax.pmap(
        run,
        axis_name=AXIS,
        in_axes=(0, None, None, 0, None),
        out_axes=(None, None),
        devices=devices,
    )

    def split(chunks: jax.Array) -> jax.Array:
        shape = (*chunks.shape[:2], len(devices), chunks.shape[2] // len(devices))
        apart = chunks.reshape(*shape, *chunks.shape[3:])
        return apart.transpose(2, 0, 1, *range(3, apart.ndim))

    index = np.arange(len(devices))

    def call(state: Any, resident: Any, streamed: Any, count: Any) -> tuple[Any, Any]:
        state, metrics = mapped(index, state, resident, jax.tree.map(split, streamed), count)
        return replicate(state, mesh), metrics

    return call


def acting_device() -> jax.Device:
    """Where a policy acts: the CPU, or the default device of a process that has no CPU backend."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS names other platforms alone
        return jax.local_devices()[0]


def check_precision() -> None:
    """Make sure that arrays are of 32 bits by default, as the networks and their states are.

    Raises:
        ValueError: jax is set to 64 bits.
    """
    if jnp.zeros(()).dtype != jnp.float32:
        raise ValueError(
            "jax is set to 64 bits, in which nothing here is learnt: unset JAX_ENABLE_X64, and "
            "leave jax_enable_x64 off."
        )
