"""Settings of the process that runs jax: compile cache, dispatch, and how it is asked to stop."""

from __future__ import annotations

import ctypes
import logging
import math
import os
import platform
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

import jax

from coworld_jax import hosts
from coworld_jax.data import usable_cores
from coworld_jax.training.native import use_native_convolutions

_LOG = logging.getLogger(__name__)
CACHE_VARIABLE = "JAX_COMPILATION_CACHE_DIR"
TUNABLES_VARIABLE = "GLIBC_TUNABLES"
HUGE_PAGES = "glibc.malloc.hugetlb"
MOST_CORES = 4  # devices: each holds a copy of the state, and more than two are not measured


def jit_once(function: Callable[..., Any]) -> jax.stages.Wrapped:
    """``function``, jitted to run once: optimising it would take longer than it saves."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


def restart_with_huge_pages() -> None:
    """Start this program again with huge pages for its large arrays, unless it has them.

    glibc returns the memory of large arrays at once and takes it anew for the next update; in pages
    of 2 MiB instead of 4 KiB that costs a ``released`` 50x50 update 4.4 s instead of 5.3 on two
    cores. It reads ``GLIBC_TUNABLES`` only as a process starts; the process id stays. A variable
    that already says what to do about huge pages is left alone; so are other C libraries.

    Reference: glibc manual, "Memory Allocation Tunables".
    """
    present = os.environ[TUNABLES_VARIABLE] if TUNABLES_VARIABLE in os.environ else ""
    if not _has_glibc() or HUGE_PAGES in present:
        return
    os.environ[TUNABLES_VARIABLE] = ":".join(filter(None, [present, f"{HUGE_PAGES}=1"]))
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def return_free_memory() -> None:
    """Give the system back what was freed: glibc keeps it, half a gigabyte after a compilation."""
    if _has_glibc():
        ctypes.CDLL(None).malloc_trim(0)


def _has_glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"


def use_cores() -> None:
    """Let jax see each core of the CPU as a device; call it before jax makes any array.

    Cores that share the batches of an update, as several accelerators would, wait for each other
    less than threads that share each of its operations do. What the user has set stays:
    ``JAX_NUM_CPU_DEVICES``, or ``--xla_force_host_platform_device_count`` in ``XLA_FLAGS``.
    """
    flags = os.environ["XLA_FLAGS"] if "XLA_FLAGS" in os.environ else ""
    if "JAX_NUM_CPU_DEVICES" not in os.environ and "host_platform_device_count" not in flags:
        jax.config.update("jax_num_cpu_devices", min(usable_cores(), MOST_CORES))


def configure(*, cache: bool = True) -> Path | None:
    """Turns on the compile cache and the C++ convolutions, before the first jitted function runs.

    Convolutions on a CPU come from `native`, if it compiles. Compiled programs go to
    ``$JAX_COMPILATION_CACHE_DIR``, or else to ``~/.cache/coworld_jax``; a run that starts again
    finds them there. An empty variable turns the cache off. Where there is no home directory, or
    the folder cannot be made, a warning says so, and the cache is off.

    Args:
        cache: False turns jax's cache off; the C++ library is still kept.

    Returns:
        The cache's directory, or None when it is off.

    Raises:
        ValueError: see `check_devices`.
    """
    check_devices()
    directory = _cache_directory()
    if jax.default_backend() == "cpu":
        use_native_convolutions(None if directory is None else directory / "native")
    if directory is None or not cache:
        jax.config.update("jax_enable_compilation_cache", False)
        return None
    jax.config.update("jax_compilation_cache_dir", str(directory))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
    return directory


def check_devices() -> None:
    """Start jax's devices.

    On a CPU, calls are made synchronous, which has to be said before: a call that is only queued
    would keep other threads, which judge episodes meanwhile, waiting until a whole chunk of updates
    is done. Policies have a device of their own (`parallel.acting_device`).

    Raises:
        ValueError: there are none, for example on the platform of ``JAX_PLATFORMS``.
    """
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    try:
        jax.local_devices()
    except RuntimeError as error:
        raise ValueError(f"jax does not start: {str(error).splitlines()[-1]}") from error


def _cache_directory() -> Path | None:
    """The folder of the compile cache, made if it is missing; None if there is to be none."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen == "":
        return None
    try:
        directory = Path.home() / ".cache" / "coworld_jax" if chosen is None else Path(chosen)
        directory.mkdir(parents=True, exist_ok=True)
    except (RuntimeError, OSError) as error:  # Python's sentence: no home, or no such place
        _LOG.warning(
            "No folder for compiled programs (%s): each start compiles again. Set %s to a folder.",
            error,
            CACHE_VARIABLE,
        )
        return None
    return directory


def peak_bytes() -> int:
    """Peak memory so far: of the device where it keeps count, else of this process."""
    stats = jax.local_devices()[0].memory_stats()
    if stats is not None and "peak_bytes_in_use" in stats:
        return int(stats["peak_bytes_in_use"])
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, else kibibytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class StopRequest:
    """While entered, SIGTERM and SIGINT ask the run to stop; a second SIGINT interrupts it at once.

    A second SIGTERM changes nothing: Slurm sends one when the first of several hosts has left.

    Attributes:
        received: number of the signal that this host has received; 0 before.
        since: when it came, monotonic seconds.
    """

    def __init__(self) -> None:
        self.received = 0
        self.since = math.inf
        self._agreed = 0  # by all hosts; written by exchanges alone, which no signal must undo

    @property
    def status(self) -> int:
        """Exit status of a program that was stopped, as shells count: 143 after SIGTERM."""
        return 128 + self._agreed

    def agreed(self) -> bool:
        """Whether any host has received a signal; an exchange."""
        return self.agree(hosts.gather(self.received))

    def agree(self, received: Sequence[int]) -> bool:
        """Whether any of the signals that the hosts have received is one."""
        self._agreed = max(self._agreed, *received)
        return self._agreed != 0

    def __enter__(self) -> Self:
        self._previous = {}
        if threading.current_thread() is threading.main_thread():
            self._previous = {
                number: signal.signal(number, self._receive)
                for number in (signal.SIGTERM, signal.SIGINT)
            }
        return self

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not self.received:
            self.received, self.since = number, time.monotonic()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
