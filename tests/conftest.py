"""Strictness for every test, set before jax starts.

Two CPU devices are forced, because sharded code on one device proves nothing. Arrays of different
rank never broadcast, and a PRNG key that is used twice is an error. Compiled programs are kept in
``.cache/`` from one run to the next; commands that the tests start inherit that and the devices.

``tests/run.sh`` has two processes share the files. Those that take longest come first, so that no
process is left with one of them at the end.
"""

from __future__ import annotations

import os
from pathlib import Path

_CACHE = Path(__file__).resolve().parent.parent / ".cache" / "jax"
# Tests compile much and compute little: the backend's optimiser would be most of their time, the
# older way to emit fused loops compiles in half the time of the newer one, and a program in one
# piece compiles in less CPU time than one that is split over threads.
_FLAGS = (
    "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0"
    " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
)

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    f"{os.environ['XLA_FLAGS']} {_FLAGS}" if ("XLA_FLAGS" in os.environ) else _FLAGS
)
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(_CACHE)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.5"
os.environ["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"  # or each command would start twice

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)

_LONGEST_FILES = (
    *("test_contract.py", "test_train.py", "test_offline_dv2.py", "test_coworld.py"),
    *("test_device.py", "test_lompo.py", "test_study_running.py", "test_world_model.py"),
    *("test_users_run.py", "test_digests.py", "test_parallel.py", "test_envs_pool.py"),
    *("test_collect.py", "test_envs_options.py"),
    *("test_collect_online.py", "test_methods_model_free.py"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Moves the files that take longest to the front; the order is otherwise kept."""
    order = {name: place for place, name in enumerate(_LONGEST_FILES)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))
