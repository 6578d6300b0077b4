"""Which devices work together: on the batches of one run, or each on seeds of its own.

A mesh may span several hosts (`hosts`), and has the same number of devices of each.
"""

from __future__ import annotations

import threading
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from coworld_jax import hosts

AXIS = "devices"


def make_mesh(
    devices: int, batch: int, mapping: str = "jit", shares: int | None = None
) -> Mesh | None:
    """A mesh of the first ``devices`` devices of each host, or None for a single one.

    0 takes all accelerators, or as many cores of a CPU as can share an update.

    Args:
        batch: chunks, over all devices.
        mapping: see `compile_program`.
        shares: the number of devices that share an update divides it; ``batch`` if not given.

    Raises:
        ValueError: fewer devices than asked for, a batch that they cannot share equally, or a
            mapping that cannot span hosts.
    """
    if mapping == "pmap" and hosts.count() > 1:
        raise ValueError(
            f"run.mapping is pmap, which stays on one host, but there are {hosts.count()}: use "
            "--config.run.mapping=jit."
        )
    if devices == 0 and trains_on_cores():
        devices = most_cores(0, batch, shares)
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


def trains_on_cores() -> bool:
    """Whether the devices are cores of a CPU, which read the same memory."""
    return jax.default_backend() == "cpu"


def most_cores(limit: int, batch: int, shares: int | None = None) -> int:
    """The largest number of cores of each host, up to ``limit`` (0: all), that share an update.

    Args:
        batch, shares: see `make_mesh`. If no number of cores divides them, all are meant.
    """
    shares = batch if shares is None else shares
    there = len(_devices(limit)) // hosts.count()
    fitting = (n for n in range(there, 0, -1) if shares % (n * hosts.count()) == 0)
    return next(fitting, there)


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


def acting_device() -> jax.Device:
    """Where a policy acts: a CPU, or the default device of a process that has no CPU backend.

    Where the cores of the CPU learn, acting has a device of its own, which belongs to no mesh. XLA
    gives each client a pool of threads. A step of a policy in the pool that learns would wait until
    the updates of one call have all been made, for seconds.
    """
    if trains_on_cores():
        return _device_beside_learning()
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS names other platforms alone
        return jax.local_devices()[0]


_beside_learning: list[jax.Device] = []  # empty before the first policy acts
_lock = threading.Lock()  # of the list: several policies may begin at once


def _device_beside_learning() -> jax.Device:
    """The device of a second CPU client, the same one in each call."""
    from jaxlib import xla_client  # imported here, since only learning on a CPU needs it

    with _lock:
        if not _beside_learning:
            client: Any = xla_client.make_cpu_client(asynchronous=False, num_devices=1)
            _beside_learning.extend(client.local_devices())
    return _beside_learning[0]


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
