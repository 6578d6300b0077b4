"""The processes of one run, one for each host: the only place that knows that there are several.

All hosts carry out the same events of the same plan. Host 0 owns the workdir; no other host opens
it. What one host knows and the others need (an episode, a restored state, a request to stop) goes
through an *exchange*. Every host calls it, in the same order, on its main thread.

A host that has failed takes part in the next exchange with its sentence in the place of a value.
All hosts then raise that sentence (`HostError`), so that nobody waits for the one that is gone.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

_HEARTBEAT_SECONDS = 60  # a host that is silent for so long counts as dead
_START_SECONDS = 1800  # the hosts of a large pod may take so long until all are there
_SHUTDOWN_SECONDS = 20  # a host that ends waits so long for the others
_SHORT = 1024  # bytes of the first part of a message
_HEAD = 9  # of them: one byte for a failure, eight for the length
_PORTION = 64 * 2**20  # bytes that all hosts together send at once, at most
_UNIT = 2**20  # bytes of the smallest portion
_WAYS = "use one, auto, or ADDRESS:PORT,COUNT,INDEX such as 10.0.0.1:8476,4,0"

T = TypeVar("T")


class HostError(ValueError):
    """A host has failed; all hosts raise its message."""


class LostHostError(RuntimeError):
    """A host is gone without a word."""


class _Cluster(NamedTuple):
    """Arguments of `jax.distributed.initialize` that turn the detection of clusters off."""

    coordinator_address: str
    num_processes: int
    process_id: int
    cluster_detection_method: str = "deactivate"


def start(mode: str) -> None:
    """Join the other hosts; call it before jax touches a device.

    Args:
        mode: ``one`` starts nothing and opens no port. ``auto`` asks the cluster that jax
            recognises: a TPU pod, Slurm, Open MPI. ``ADDRESS:PORT,COUNT,INDEX`` names host 0, how
            many hosts there are, and which one this is.

    Raises:
        ValueError: no such mode, no cluster, or the hosts did not find each other.
    """
    if mode == "one":
        return
    cluster = None if mode == "auto" else _parse(mode)
    # jax would take SIGTERM for itself, and do nothing with it.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        with _interruptible():
            jax.distributed.initialize(
                **({} if cluster is None else cluster._asdict()),
                initialization_timeout=_START_SECONDS,
                heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
                shutdown_timeout_seconds=_SHUTDOWN_SECONDS,
            )
    except (ValueError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if cluster is None and "coordinator_address" in reason:
            raise ValueError(
                f"--hosts=auto: jax recognises no cluster here ({reason}). On a single machine "
                f"leave --hosts out; elsewhere {_WAYS}."
            ) from error
        needs = (
            ""
            if cluster is None
            else (" Each needs the same ADDRESS:PORT, which is host 0's, and an INDEX of its own.")
        )
        raise ValueError(
            f"--hosts={mode}: the hosts did not find each other ({reason}).{needs}"
        ) from error


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C end the process, whose main thread waits where Python sees no signals."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _parse(mode: str) -> _Cluster:
    """The cluster that the user describes.

    Raises:
        ValueError: the text has another form, or numbers that cannot be.
    """
    address, *numbers = mode.split(",")
    well_formed = address.rpartition(":")[2].isdigit() and ":" in address
    if not well_formed or len(numbers) != 2 or not all(n.isdigit() for n in numbers):
        raise ValueError(f"--hosts={mode} does not name the hosts: {_WAYS}.")
    count, index = map(int, numbers)
    if not index < count:
        raise ValueError(
            f"--hosts={mode}: INDEX {index} must be below COUNT {count}; the first host is 0."
        )
    return _Cluster(address, count, index)


def count() -> int:
    """How many hosts carry the run out."""
    return jax.process_count()


def index() -> int:
    """Which of them this is."""
    return jax.process_index()


def first() -> bool:
    """Whether this is host 0, which owns the workdir."""
    return index() == 0


def mine(number: int) -> bool:
    """Whether this host does piece ``number`` of work that the hosts share, such as an episode."""
    return number % count() == index()


def check_started() -> None:
    """Make sure that the hosts can exchange anything.

    Raises:
        ValueError: jax finds the hosts of a pod by itself, but `start` was not called for them; or
            they have different numbers of devices.
    """
    if count() > 1 and not jax.distributed.is_initialized():
        raise ValueError(
            f"This is one of {count()} hosts of a pod: use --hosts=auto on each of them, or run "
            "on a machine with accelerators of its own."
        )
    owners = [device.process_index for device in jax.devices()]
    numbers = [owners.count(host) for host in range(count())]
    if len(set(numbers)) > 1:
        raise ValueError(
            f"The hosts have {', '.join(map(str, numbers))} devices: start them with equal numbers."
        )


def gather(value: T) -> list[T]:
    """The values of all hosts, by host; an exchange.

    Args:
        value: of this host; JSON holds it.
    """
    if count() == 1:
        return [value]
    return [json.loads(blob) for blob in gather_bytes(json.dumps(value).encode())]


def meet() -> None:
    """Wait until all hosts are here; an exchange."""
    gather(None)


def any_of(flag: bool) -> bool:
    """Whether ``flag`` is true on any host; an exchange."""
    return any(gather(flag))


def on_first(make: Callable[[], T]) -> T:
    """``make()`` of host 0, on every host; an exchange.

    Args:
        make: called on host 0 alone; JSON holds what it returns.
    """
    if count() == 1:
        return make()
    value = make() if first() else None
    received: T = json.loads(bytes_of_first(json.dumps(value).encode()))
    return received


def agree(what: str, value: object) -> None:
    """Make sure that all hosts have the same; an exchange.

    Args:
        what: of the sentence, with its verb, for example ``the configuration has``.
        value: dictionary of this host; JSON holds it.

    Raises:
        ValueError: they have not; the first key that differs is named, and the host.
    """
    if count() == 1:
        return
    values = gather(value)
    for host, other in enumerate(values):
        if other != values[0]:
            raise ValueError(f"On host {host} {what} {_difference(values[0], other)} of host 0.")


def _difference(here: Any, there: Any) -> str:
    for key in sorted(here.keys() | there.keys()):
        pair = [json.dumps(side[key]) if key in side else "nothing" for side in (there, here)]
        if pair[0] != pair[1]:
            return f"{key} {pair[0]} instead of the {pair[1]}"
    raise AssertionError("called for values that differ")


def leaves_of_first(tree: T) -> T:
    """The tree of host 0 on every host; an exchange.

    Args:
        tree: NumPy arrays, of the same shapes on all hosts; the numbers of host 0 count.
    """
    if count() == 1:
        return tree
    leaves, structure = jax.tree.flatten(tree)
    blob = b"".join(leaf.tobytes() for leaf in leaves) if first() else b""
    received, place, values = bytes_of_first(blob), 0, []
    for leaf in leaves:
        part = received[place : place + leaf.nbytes]
        values.append(np.frombuffer(part, leaf.dtype).reshape(leaf.shape))
        place += leaf.nbytes
    result: T = jax.tree.unflatten(structure, values)
    return result


def gather_bytes(blob: bytes) -> list[bytes]:
    """The bytes of all hosts, by host; an exchange."""
    messages = _open(_gathered(_head(blob, failed=False)))
    longest = max(message.length for message in messages)
    if longest <= _SHORT - _HEAD:
        return [message.text for message in messages]
    rows = [_gathered(portion) for portion in _portions(blob, longest)]
    whole = np.concatenate(rows, axis=1)
    return [whole[host, : m.length].tobytes() for host, m in enumerate(messages)]


def bytes_of_first(blob: bytes) -> bytes:
    """The bytes of host 0, on every host; an exchange."""
    if count() == 1:
        return blob
    own = blob if first() else b""
    message = _open(_gathered(_head(own, failed=False)))[0]
    if message.length <= _SHORT - _HEAD:
        return message.text
    with _lost():
        parts = [
            multihost_utils.broadcast_one_to_all(portion)
            for portion in _portions(own, message.length)
        ]
    return np.concatenate(parts)[: message.length].tobytes()


def announce(sentence: str) -> None:
    """Tell the other hosts in their next exchange that this one has failed.

    Raises:
        HostError: on all hosts, with the same sentence.
    """
    if count() > 1:
        _open(_gathered(_head(sentence.encode(), failed=True)))


class _Message(NamedTuple):
    """The first part of what a host sends."""

    length: int  # of all of it, in bytes
    text: bytes  # the whole, if it is short


def _head(blob: bytes, *, failed: bool) -> np.ndarray:
    """The first part of a message: uint8 ``[_SHORT]``. Of a failure it is all, a sentence."""
    blob = blob[: _SHORT - _HEAD] if failed else blob
    text = blob if len(blob) <= _SHORT - _HEAD else b""
    head = bytes([failed]) + len(blob).to_bytes(_HEAD - 1, "little") + text
    return np.frombuffer(head.ljust(_SHORT, b"\0"), np.uint8)


def _open(heads: np.ndarray) -> list[_Message]:
    """The first parts of all hosts' messages, uint8 ``[hosts, _SHORT]``.

    Raises:
        HostError: one of them is a failure; it is named unless all hosts say the same.
    """
    lengths = [int.from_bytes(head[1:_HEAD].tobytes(), "little") for head in heads]
    texts = [head[_HEAD : _HEAD + n].tobytes() for head, n in zip(heads, lengths, strict=True)]
    failures = [host for host, head in enumerate(heads) if head[0]]
    if failures:
        sentence = texts[failures[0]].decode(errors="replace")
        alike = len(failures) == len(heads) and len(set(texts)) == 1
        raise HostError(sentence if alike else f"Host {failures[0]}: {sentence}")
    return [_Message(*pair) for pair in zip(lengths, texts, strict=True)]


def _portions(blob: bytes, longest: int) -> Iterator[np.ndarray]:
    """A message in parts of a few sizes, each a power of two of MiB, since each is compiled once.

    Args:
        blob: padded with zeros to ``longest``.
        longest: bytes of the longest message of a host.
    """
    most = max(_PORTION // count(), _UNIT)
    place = 0
    while place < longest:
        size = _UNIT
        while size < longest - place and 2 * size <= most:
            size *= 2
        part = np.zeros((size,), np.uint8)
        own = np.frombuffer(blob[place : place + size], np.uint8)
        part[: own.size] = own
        yield part
        place += size


def _gathered(part: np.ndarray) -> np.ndarray:
    """``part`` of all hosts, ``[hosts, ...]``."""
    with _lost():
        found: np.ndarray = multihost_utils.process_allgather(part)
    return found


@contextmanager
def _lost() -> Iterator[None]:
    """Tell apart what the network raises.

    Raises:
        LostHostError: a host did not answer.
    """
    try:
        yield
    except Exception as error:  # of a kind that depends on the network's library
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise LostHostError(f"Another host does not answer ({reason}).") from error
