"""One program on several devices: the only place that knows meshes and `jax.pmap`.

Every device holds the whole state and the whole store, takes its share of each batch, and averages
gradients over the axis `AXIS`. Noise belongs to examples and not to devices, so that any number of
devices computes the same update up to rounding. The devices may be those of several hosts
(`hosts`): a mesh has the same number of devices of each.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from coworld_jax import hosts

AXIS = "devices"
Tree = TypeVar("Tree")


class Program(Protocol):
    """A function of state, stores, streamed batches ``[K, T, B, ...]`` and a count."""

    def __call__(
        self, state: Any, resident: Any, streamed: Any, count: Any, *, axis_name: str | None
    ) -> tuple[Any, Any]: ...


Compiled = Callable[[Any, Any, Any, Any], tuple[Any, Any]]


def make_mesh(devices: int, batch: int, mapping: str = "jit") -> Mesh | None:
    """A mesh of the first ``devices`` devices of each host (0: all), or None for a single one.

    Args:
        batch: chunks, over all devices.
        mapping: see `compile_program`.

    Raises:
        ValueError: fewer devices than asked for, a batch that they cannot share equally, or a
            mapping that cannot span hosts.
    """
    if mapping == "pmap" and hosts.count() > 1:
        raise ValueError(
            f"run.mapping is pmap, which stays on one host, but there are {hosts.count()}: use "
            "--config.run.mapping=jit."
        )
    chosen = _devices(devices)
    count = len(chosen)
    if batch % count:
        each = count // hosts.count()
        fitting = [n for n in range(1, each + 1) if batch % (n * hosts.count()) == 0]
        way_out = f"set run.devices to {fitting[-1]}" if fitting else "use fewer hosts"
        whose = "" if hosts.count() == 1 else f" of {hosts.count()} hosts"
        raise ValueError(
            f"A batch has {batch} chunks (learning.batch), which {count} devices{whose} cannot "
            f"share equally: use a multiple of {count}, or {way_out}."
        )
    return None if count == 1 else Mesh(np.array(chosen), (AXIS,))


def make_seed_mesh(devices: int, seeds: int) -> Mesh | None:
    """A mesh of as many devices as can share ``seeds`` equally, or None for a single one.

    Where hosts cannot share them, since some have failed, it is None: each host trains all.

    Args:
        devices: how many of each host at most; 0 for all.

    Raises:
        ValueError: fewer devices than asked for.
    """
    if seeds % hosts.count():
        return None
    most = len(_devices(devices)) // hosts.count()
    each = next(n for n in range(most, 0, -1) if seeds // hosts.count() % n == 0)
    chosen = _devices(each)
    return None if len(chosen) == 1 else Mesh(np.array(chosen), (AXIS,))


def idle_devices(devices: int, seeds: int) -> str:
    """A sentence if `make_seed_mesh` leaves devices out that it might take; otherwise empty."""
    mesh, there = make_seed_mesh(devices, seeds), len(_devices(devices))
    taken = 1 if mesh is None else mesh.size
    if taken == min(there, seeds):
        return ""
    return (
        f"{taken} of {there} devices train the {seeds} seeds, each equally many: a multiple of "
        f"{there} for run.seeds uses all."
    )


def check_seeds(seeds: int) -> None:
    """Make sure that the hosts can share seeds equally.

    Raises:
        ValueError: they cannot.
    """
    if seeds % hosts.count():
        raise ValueError(
            f"{seeds} seeds train together, which {hosts.count()} hosts cannot share equally: use "
            f"a multiple of {hosts.count()} for run.seeds."
        )


def _devices(devices: int) -> list[jax.Device]:
    """The first ``devices`` of each host (0: all), host after host.

    Raises:
        ValueError: a host has fewer.
    """
    everywhere = [
        [device for device in jax.devices() if device.process_index == host]
        for host in range(hosts.count())
    ]
    fewest = min(map(len, everywhere))
    if devices > fewest:
        raise ValueError(f"run.devices is {devices}, but there are {fewest}: use 0 for all.")
    return [device for own in everywhere for device in own[: devices or fewest]]


def share_seeds(tree: Tree, mesh: Mesh | None) -> Tree:
    """``tree``, whose leaves are ``[seeds, ...]``, shared by the devices of the mesh.

    Args:
        tree: the same one on every host, or shared already.
    """
    return tree if mesh is None else _place(tree, NamedSharding(mesh, PartitionSpec(AXIS)))


def of_all_seeds(tree: Tree) -> Tree:
    """What `share_seeds` shared, whole on every host; an exchange of the hosts."""
    if all(_is_here(leaf) for leaf in jax.tree.leaves(tree)):
        return tree
    hosts.meet()  # a host that has failed is heard here, and not in the middle of a program
    mesh = jax.tree.leaves(tree)[0].sharding.mesh
    return on_host(_whole(mesh)(tree))


@functools.cache
def _whole(mesh: Mesh) -> jax.stages.Wrapped:
    """A program that puts a shared tree on every device."""
    return jax.jit(lambda tree: tree, out_shardings=NamedSharding(mesh, PartitionSpec()))


def _is_here(leaf: Any) -> bool:
    """Whether a leaf lies on this host alone."""
    return not isinstance(leaf, jax.Array) or leaf.is_fully_addressable


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
    """``tree`` on every device of the mesh, as `compile_program` wants its stores and state.

    Args:
        tree: the same one on every host, or on every device already.
    """
    return tree if mesh is None else _place(tree, NamedSharding(mesh, PartitionSpec()))


def share_columns(array: np.ndarray, mesh: Mesh | None) -> jax.Array:
    """Streamed batches, of which each host has gathered its own columns.

    Args:
        array: ``[K, T, B / hosts, ...]``, see `columns`.

    Returns:
        ``[K, T, B, ...]``, shared by the devices of the mesh.
    """
    if mesh is None or hosts.count() == 1:
        return jax.device_put(array)
    sharding = NamedSharding(mesh, PartitionSpec(None, None, AXIS))
    return jax.make_array_from_process_local_data(sharding, array)


def columns(batch: int) -> slice:
    """Which of the ``batch`` chunks of an update the devices of this host take."""
    share = batch // hosts.count()
    return slice(hosts.index() * share, (hosts.index() + 1) * share)


def _place(tree: Tree, sharding: NamedSharding) -> Tree:
    """``tree`` with this sharding. The devices of several hosts get theirs without an exchange."""
    if hosts.count() == 1:
        return jax.device_put(tree, sharding)

    def place(leaf: Any) -> Any:
        if not _is_here(leaf):
            return leaf
        whole = _numbers(leaf)
        placed = jax.make_array_from_callback(whole.shape, sharding, lambda part: whole[part])
        return _as_leaf(placed, leaf)

    return jax.tree.map(place, tree)


def of_first(tree: Tree) -> Tree:
    """The tree of host 0, on every host; an exchange.

    Args:
        tree: arrays of this host, of the same shapes on all hosts.
    """
    if hosts.count() == 1:
        return tree
    return jax.tree.map(_as_leaf, hosts.leaves_of_first(jax.tree.map(_numbers, tree)), tree)


def _numbers(leaf: Any) -> np.ndarray:
    """The numbers of a leaf; of a key, its words."""
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _as_leaf(numbers: Any, leaf: Any) -> Any:
    """What `_numbers` gave of a leaf as such a leaf again."""
    if not _is_key(leaf):
        return numbers
    return jax.random.wrap_key_data(jnp.asarray(numbers), impl=str(jax.random.key_impl(leaf)))


def _is_key(leaf: Any) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def on_host(tree: Tree) -> Tree:
    """What is on every device of all hosts, as arrays of this host alone; it must not be donated.

    Programs of a single host (acting, saving, drawing) take these.
    """
    return jax.tree.map(lambda leaf: leaf if _is_here(leaf) else leaf.addressable_data(0), tree)


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
