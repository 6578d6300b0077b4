"""Where arrays lie: the whole on every device, a share on each, or one copy that all cores read."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from coworld_jax import hosts
from coworld_jax.parallel.meshes import AXIS, trains_on_cores

Tree = TypeVar("Tree")


def replicate(tree: Tree, mesh: Mesh | None) -> Tree:
    """``tree`` on every device of the mesh, as `compile_program` wants its stores and state.

    Args:
        tree: the same one on every host, or on every device already.
    """
    return tree if mesh is None else _place(tree, NamedSharding(mesh, PartitionSpec()))


def keep(tree: Tree, mesh: Mesh | None) -> Tree:
    """A tree that is later overwritten: on every accelerator of the mesh, or on one core of a CPU.

    Programs of the mesh get it through `show`.

    Args:
        tree: the same one on every host.
    """
    return tree if mesh is None or trains_on_cores() else replicate(tree, mesh)


def show(tree: Tree, mesh: Mesh | None) -> Tree:
    """What `keep` has kept, as programs of the mesh read it; all cores of a CPU read one copy.

    While this view exists, overwriting the kept arrays (donating them) makes a copy.
    """
    if mesh is None or not trains_on_cores():
        return tree

    def view(leaf: jax.Array) -> np.ndarray:
        return np.asarray(leaf.addressable_data(0))  # of ``leaf`` itself jax would keep the view

    return _place(jax.tree.map(view, tree), NamedSharding(mesh, PartitionSpec()))


def lend(tree: Tree, mesh: Mesh | None) -> Tree:
    """A tree that is never overwritten, as programs of the mesh read it."""
    return show(keep(tree, mesh), mesh)


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


def of_first(tree: Tree) -> Tree:
    """The tree of host 0, on every host; an exchange.

    Args:
        tree: arrays of this host, of the same shapes on all hosts.
    """
    if hosts.count() == 1:
        return tree
    return jax.tree.map(_as_leaf, hosts.leaves_of_first(jax.tree.map(_numbers, tree)), tree)


def on_host(tree: Tree) -> Tree:
    """What is on every device, as arrays of this host's first one; it must not be donated.

    Programs of a single device (acting, saving, drawing) take these.
    """

    def first(leaf: Any) -> Any:
        copied = isinstance(leaf, jax.Array) and leaf.is_fully_replicated
        return leaf.addressable_data(0) if copied else leaf

    return jax.tree.map(first, tree)


def check_equal(tree: Any) -> None:
    """Make sure that cores which share the batches have learnt the same.

    Raises:
        ValueError: they have not, since an update did not average what it should.
    """
    if not trains_on_cores():
        return
    for leaf in jax.tree.leaves(tree):
        if not isinstance(leaf, jax.Array) or not leaf.is_fully_replicated or _is_key(leaf):
            continue
        first, *others = (np.asarray(shard.data) for shard in leaf.addressable_shards)
        if any(first.tobytes() != other.tobytes() for other in others):
            raise ValueError(
                "The devices that share each batch have learnt different states: an update of the "
                "method must average its gradients over axis_name (agents.gradient.averaged), or "
                "use --config.run.devices=1."
            )


def shapes_on_one_device(make: Callable[[], Tree]) -> Tree:
    """Shapes of ``make()``, nothing computed, for a restore onto the first local device."""
    device = SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device),
        jax.eval_shape(make),
    )


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


def _is_here(leaf: Any) -> bool:
    """Whether a leaf lies on this host alone."""
    return not isinstance(leaf, jax.Array) or leaf.is_fully_addressable


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
