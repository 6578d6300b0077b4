"""Settings and faults of users' machines: one sentence, or training goes on."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import pwd
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from jaxlib import xla_client

from coworld_jax import parallel
from coworld_jax.method import init_train_state, make_key
from coworld_jax.parallel import meshes
from coworld_jax.policy import AgentPolicy
from coworld_jax.records.files import lock
from coworld_jax.training import native, runtime
from coworld_jax.training import run as run_module
from coworld_jax.training.loop import train
from coworld_jax.workdir import load_policy

ROOT = Path(__file__).resolve().parent.parent


# --- jax ------------------------------------------------------------------------------------------


def test_64_bits_are_refused_before_a_simulator_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(run_module, "EnvironmentPool", None)  # nobody may call it
    config = replace(tiny.CONFIG, data="data")
    with jax.enable_x64(True):
        with pytest.raises(ValueError, match="jax is set to 64 bits.*unset JAX_ENABLE_X64"):
            train(config, tmp_path)
        with pytest.raises(ValueError, match="jax is set to 64 bits"):
            load_policy(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_draws_do_not_depend_on_the_default_generator():
    method = tiny.build()
    shapes = jax.eval_shape(lambda: init_train_state(method, make_key(3)))
    with jax.default_prng_impl("rbg"):
        other = jax.eval_shape(lambda: init_train_state(method, make_key(3)))
        words = jax.random.key_data(make_key(3))
    assert shapes == other
    np.testing.assert_array_equal(words, jax.random.key_data(make_key(3)))


def test_a_process_without_a_cpu_backend_acts_on_its_default_device(monkeypatch):
    found = jax.local_devices()

    def devices(backend=None):
        if backend == "cpu":
            raise RuntimeError("Unknown backend cpu")
        return found

    monkeypatch.setattr(jax, "local_devices", devices)
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert parallel.acting_device() == found[0]
    method, state = tiny.make()
    act = AgentPolicy(method.players["target"], state, 64, 0, explore=False).episode(0)
    assert jnp.isfinite(act(np.zeros((64, 64, 3), np.uint8))).all()


def test_where_cores_learn_a_policy_acts_in_a_client_of_its_own():
    method, state = tiny.make()
    policy = AgentPolicy(method.players["target"], state, 64, 0, explore=False)
    (device,) = jax.tree.leaves(policy.parameters)[0].devices()
    assert device.platform == "cpu"
    assert device.client is not jax.local_devices()[0].client


def test_policies_that_begin_together_share_a_client(monkeypatch):
    made = []

    def make(**_):
        time.sleep(0.05)
        made.append("client")
        return SimpleNamespace(local_devices=lambda: ["device"])

    monkeypatch.setattr(meshes, "_beside_learning", [])
    monkeypatch.setattr(xla_client, "make_cpu_client", make)
    with ThreadPoolExecutor(3) as threads:
        devices = list(threads.map(lambda _: parallel.acting_device(), range(3)))
    assert devices == ["device"] * 3
    assert made == ["client"]


def test_cores_become_devices_unless_the_user_has_said_how_many(monkeypatch):
    asked = {}
    monkeypatch.setattr(
        runtime, "jax", SimpleNamespace(config=SimpleNamespace(update=asked.__setitem__))
    )
    monkeypatch.setattr(runtime, "usable_cores", lambda: 64)
    for variable, value in (
        ("JAX_NUM_CPU_DEVICES", "3"),
        ("XLA_FLAGS", "--xla_force_host_platform_device_count=2"),
    ):
        monkeypatch.delenv("XLA_FLAGS", raising=False)
        with monkeypatch.context() as patch:
            patch.setenv(variable, value)
            runtime.use_cores()
        assert asked == {}
    runtime.use_cores()
    assert asked == {"jax_num_cpu_devices": runtime.MOST_CORES}


# --- places ---------------------------------------------------------------------------------------


@pytest.fixture
def jax_settings():
    """Puts back what `runtime.configure` changes."""
    names = (
        "jax_cpu_enable_async_dispatch", "jax_enable_compilation_cache",
        "jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs",
    )  # fmt: skip
    before = {name: getattr(jax.config, name) for name in names if hasattr(jax.config, name)}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def no_home(monkeypatch, tmp_path):
    def nobody(uid):
        raise KeyError(uid)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", nobody)


def home_in_a_file(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))


def cache_in_a_file(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv(runtime.CACHE_VARIABLE, str(tmp_path / "file" / "cache"))


@pytest.mark.parametrize("fault", [no_home, home_in_a_file, cache_in_a_file])
def test_without_a_place_for_the_cache_there_is_none(
    fault, monkeypatch, tmp_path, caplog, jax_settings
):
    monkeypatch.setenv("CXX", "")  # nothing to compile without a place
    monkeypatch.setattr(native, "_outcome", [])
    monkeypatch.delenv(runtime.CACHE_VARIABLE)
    fault(monkeypatch, tmp_path)
    with caplog.at_level(logging.WARNING):
        assert runtime.configure() is None
    assert "each start compiles again. Set JAX_COMPILATION_CACHE_DIR" in caplog.text


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_gets_a_warning(number, monkeypatch, tmp_path, caplog):
    def flock(file, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with caplog.at_level(logging.WARNING), lock(tmp_path / "run"):
        assert (tmp_path / "run").is_dir()
    assert f"{tmp_path / 'run'} has no locks ({os.strerror(number)})" in caplog.text


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
def test_other_faults_of_a_lock_are_not_passed_over(number, monkeypatch, tmp_path):
    def flock(file, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match=os.strerror(number)), lock(tmp_path):
        pass


def test_workers_are_as_many_as_the_cores_that_the_process_may_use():
    program = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "import experiments.collect\nfrom absl import flags\nprint(flags.FLAGS['workers'].default)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "1"
