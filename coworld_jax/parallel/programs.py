"""Functions of one device as programs of a mesh, by `jax.jit` or by `jax.pmap`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from coworld_jax.parallel.meshes import AXIS, trains_on_cores
from coworld_jax.parallel.placement import replicate


class Program(Protocol):
    """A function of state, stores, streamed batches ``[K, T, B, ...]`` and a count."""

    def __call__(
        self, state: Any, resident: Any, streamed: Any, count: Any, *, axis_name: str | None
    ) -> tuple[Any, Any]: ...


Compiled = Callable[[Any, Any, Any, Any], tuple[Any, Any]]
_SHARES_LOOPS = "cpu-parallel-task-assigner"  # a pass of XLA's compiler


def compile_program(
    program: Program, arguments: tuple[Any, Any, Any, Any], mesh: Mesh | None, mapping: str
) -> Compiled:
    """``program`` as a function of arguments of these shapes; with ``jit`` it is compiled here.

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
        return jit_donating(run, mesh)
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
    return jit_donating(mapped, mesh)


def jit_donating(program: Callable[..., Any], mesh: Mesh | None) -> jax.stages.Wrapped:
    """``program`` as a jitted function that donates its first argument.

    XLA for a CPU shares the loops of single operations among its threads. Where the devices of a
    mesh are cores, the other cores are at work on their own part of a batch, and the loops stay
    whole. This was measured with a device for each core.
    """
    cores = mesh is not None and len(mesh.local_devices) > 1 and trains_on_cores()
    options = {"xla_disable_hlo_passes": _SHARES_LOOPS} if cores else None
    return jax.jit(program, donate_argnums=0, compiler_options=options)


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


def share_batches(run: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """``run`` on every device, with the same arguments; its batches are shared over `AXIS`."""
    whole = PartitionSpec()
    return jax.shard_map(run, mesh=mesh, in_specs=whole, out_specs=whole, check_vma=False)
