"""Real worker processes: the same episodes whatever dies, and nothing left behind."""

import itertools
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path

import numpy as np
import pytest

from coworld_jax.envs import EnvironmentPool, RandomPolicy, WorkerFailed, make_environment
from coworld_jax.envs.pool import InterruptibleFuture

TASK = "dmc/walker_walk"
STEPS = 6
SEEDS = [3, 2**32 - 1, 7, 3, 11]
# A user's file: a function that forgets to return, and frames of one channel.
ODD = """
import numpy as np
from coworld_jax.envs import EnvironmentSpec, Timestep

def nothing(request):
    pass

class Flat:
    spec = EnvironmentSpec("users_odd:flat", 1, 1, 5, 64, "fast", {})

    def reset(self, seed):
        return Timestep(np.zeros((64, 64, 1), np.uint8), 0.0, 1.0, False, {})

def flat(request):
    return Flat()
"""


def open_pool(workers=1, **arguments):
    given = {"profile": "fast", "episode_steps": STEPS, **arguments}
    return EnvironmentPool(TASK, workers=workers, **given)


@pytest.fixture(scope="module")
def pool():
    with open_pool() as opened:
        yield opened


class Watched:
    """A random policy that calls ``meddle`` before its fourth action."""

    reads = "image"

    def __init__(self, meddle, action_size=6):
        self._meddle, self._random = meddle, RandomPolicy(action_size)

    def episode(self, seed):
        actor, frames = self._random.episode(seed), itertools.count()

        def choose(image):
            if next(frames) == 3:
                self._meddle()
            return actor(image)

        return choose


class Fixed:
    """Plays back one action."""

    reads = "image"

    def __init__(self, action):
        self._action = action

    def episode(self, seed):
        return lambda image: self._action


def assert_same(left, right):
    for name in ("image", "action", "reward", "discount"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name))
    assert left.extras.keys() == right.extras.keys()
    for key, value in left.extras.items():
        np.testing.assert_array_equal(value, right.extras[key])


def gone(pid):
    """Whether a process has ended; a zombie that its new parent has yet to reap has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def await_end(pids, seconds=20):
    deadline = time.monotonic() + seconds
    while not all(map(gone, pids)):
        assert time.monotonic() < deadline, f"{pids} still live"
        time.sleep(0.05)


def test_an_episode_has_a_row_for_the_reset_and_one_for_each_step(pool):
    episode = pool.submit(3, RandomPolicy(6)).result()
    rows = STEPS + 1
    assert (episode.image.shape, episode.image.dtype) == ((rows, 64, 64, 3), np.uint8)
    assert (episode.action.shape, episode.action.dtype) == ((rows, 6), np.float32)
    assert (episode.reward.shape, episode.reward.dtype) == ((rows,), np.float32)
    np.testing.assert_array_equal(episode.action[0], 0)
    assert episode.action[1:].any(axis=1).all()
    assert episode.reward[0] == 0
    assert (episode.reward[1:] > 0).all()
    np.testing.assert_array_equal(episode.discount, np.ones(rows, np.float32))
    for key, row in {"is_first": [0], "is_last": [STEPS], "is_terminal": []}.items():
        assert episode.extras[key].dtype == bool
        np.testing.assert_array_equal(np.flatnonzero(episode.extras[key]), row)
    assert episode.extras["state"].shape == (rows, 24)


def test_an_action_stands_beside_what_it_led_to(pool):
    episode = pool.submit(5, Fixed(np.array([0.9, -2, 0.3, 2, 0, -0.5]))).result()
    np.testing.assert_array_equal(
        episode.action[1:], np.tile(np.float32([0.9, -1, 0.3, 1, 0, -0.5]), (STEPS, 1))
    )
    here = make_environment(TASK, profile="fast", episode_steps=STEPS)
    timesteps = [here.reset(5), *(here.step(action) for action in episode.action[1:])]
    here.close()
    assert pool.spec == here.spec
    for row, timestep in enumerate(timesteps):
        np.testing.assert_array_equal(episode.image[row], timestep.image)
        assert episode.reward[row] == np.float32(timestep.reward)
        np.testing.assert_array_equal(episode.extras["state"][row], timestep.extras["state"])


def test_episodes_do_not_depend_on_the_number_of_workers(pool):
    alone = list(pool.map(SEEDS, RandomPolicy(6)))
    with open_pool(workers=2) as pair:
        together = list(pair.map(SEEDS, RandomPolicy(6)))
    for left, right in zip(alone, together, strict=True):
        assert_same(left, right)
    assert_same(alone[0], alone[3])  # the same seed, after others
    assert (alone[0].image != alone[1].image).any()


def test_seeds_may_be_endless(pool):
    several = list(itertools.islice(pool.map(itertools.count(), RandomPolicy(6)), 2))
    assert_same(several[1], pool.submit(1, RandomPolicy(6)).result())


def test_a_killed_worker_is_named_and_its_episode_comes_out_the_same(pool, caplog):
    undisturbed = pool.submit(7, RandomPolicy(6)).result()
    (victim,) = pool.pids
    before = pool.restarts

    def kill_once():
        if pool.pids == (victim,):
            os.kill(victim, signal.SIGKILL)

    with caplog.at_level(logging.WARNING):
        assert_same(pool.submit(7, Watched(kill_once)).result(), undisturbed)
    assert pool.restarts == before + 1
    assert pool.pids != (victim,)
    (record,) = caplog.records
    assert f"worker 0 of {TASK} (pid {victim}) was killed by SIGKILL" in record.getMessage()
    assert "the episode of seed 7" in record.getMessage()


def test_a_worker_killed_between_episodes_is_replaced(pool):
    undisturbed = pool.submit(7, RandomPolicy(6)).result()
    os.kill(pool.pids[0], signal.SIGKILL)
    assert_same(pool.submit(7, RandomPolicy(6)).result(), undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "action_size"),
    [("metaworld/door-close", 4), ("robodesk/push_green", 5), ("dmc/walker_walk+background", 6)],
)
def test_a_killed_worker_changes_no_episode_of_any_suite(task, action_size):
    given = {"profile": "fast", "episode_steps": STEPS, "workers": 2}
    with EnvironmentPool(task, **given) as pool:
        undisturbed = list(pool.map(SEEDS, RandomPolicy(action_size)))
        victims = set(pool.pids)

        def kill_once():
            for pid in victims & set(pool.pids):
                os.kill(pid, signal.SIGKILL)
            victims.clear()

        disturbed = list(pool.map(SEEDS, Watched(kill_once, action_size)))
        assert pool.restarts == 2
    for left, right in zip(undisturbed, disturbed, strict=True):
        assert_same(left, right)


def test_repeated_deaths_end_with_the_reason_and_the_pool_goes_on():
    with open_pool(max_deaths=2) as fragile:
        meddler = Watched(lambda: os.kill(fragile.pids[0], signal.SIGKILL))
        doomed = fragile.submit(9, meddler)
        with pytest.raises(WorkerFailed, match=r"killed by SIGKILL during the episode of seed 9"):
            doomed.result()
        assert fragile.restarts == 1  # the second death is not answered for that episode
        assert len(fragile.submit(9, RandomPolicy(6)).result().reward) == STEPS + 1


def test_a_silent_worker_is_killed_and_replaced(pool, monkeypatch, caplog):
    undisturbed = pool.submit(7, RandomPolicy(6)).result()
    (victim,) = pool.pids

    def be_patient(seconds):
        monkeypatch.setattr("coworld_jax.envs.process._ANSWER_SECONDS", seconds)

    def freeze_once():
        if pool.pids == (victim,):
            os.kill(victim, signal.SIGSTOP)
            be_patient(3.0)
            # The frozen worker is asked at once; its successor may take longer to start.
            threading.Timer(1.0, be_patient, [300.0]).start()

    assert_same(pool.submit(7, Watched(freeze_once)).result(), undisturbed)
    assert "was silent for 3 s" in caplog.text
    assert gone(victim)


def test_what_a_policy_raises_comes_out_as_it_is(pool):
    with pytest.raises(ZeroDivisionError):
        pool.submit(1, Watched(lambda: 1 / 0)).result()
    before = pool.restarts
    with pytest.raises(BrokenPipeError, match="not the worker's"):
        pool.submit(
            1, Watched(lambda: (_ for _ in ()).throw(BrokenPipeError("not the worker's")))
        ).result()
    assert pool.restarts == before
    assert len(pool.submit(1, RandomPolicy(6)).result().reward) == STEPS + 1


@pytest.mark.parametrize("action", [np.zeros(5), np.full(6, np.nan), np.zeros((1, 6))])
def test_an_unusable_action_is_refused_with_its_place(pool, action):
    with pytest.raises(ValueError, match=f"at env_step 1 of seed 1, but {TASK} takes 6 finite"):
        pool.submit(1, Fixed(action)).result()


def test_what_a_simulator_raises_comes_out_once_with_its_last_line(pool, caplog):
    before = pool.restarts
    with pytest.raises(WorkerFailed, match=r"worker 0 of \S+ \(pid \d+\) raised ValueError: Seed"):
        pool.submit(-1, Fixed(np.zeros(6))).result()
    assert pool.restarts == before  # it would raise again
    assert "Traceback" in caplog.text
    assert len(pool.submit(1, RandomPolicy(6)).result().reward) == STEPS + 1


def test_a_simulator_that_cannot_be_built_says_why_at_once():
    with pytest.raises(WorkerFailed, match="raised ValueError: Image width 5000 > framebuffer"):
        open_pool(image_size=5000)
    with pytest.raises(ValueError, match="did you mean 'dmc/walker_walk'"):
        EnvironmentPool("dmc/walker_work")


def test_a_users_mistake_is_no_traceback(tmp_path, monkeypatch, caplog):
    """What this package itself says of a request comes out alone."""
    (tmp_path / "users_odd.py").write_text(ODD)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(WorkerFailed, match="^users_odd:nothing returned None, but an Environment"):
        EnvironmentPool("users_odd:nothing")
    with pytest.raises(WorkerFailed, match="^The background nowhere is no folder.$"):
        EnvironmentPool("dmc/walker_walk+background=nowhere")
    with EnvironmentPool("users_odd:flat") as pool:
        said = r"^users_odd:flat gave a frame uint8 \[64, 64, 1\], but uint8 \[64, 64, 3\] was"
        with pytest.raises(WorkerFailed, match=said):
            pool.submit(0, RandomPolicy(1)).result()
    assert not caplog.text


def test_workers_leave_ctrl_c_and_sigterm_to_the_parent(pool):
    (worker,) = pool.pids
    os.kill(worker, signal.SIGINT)
    os.kill(worker, signal.SIGTERM)
    pool.submit(1, RandomPolicy(6)).result()
    assert pool.pids == (worker,)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="reads Linux's /proc")
def test_workers_hold_the_simulator_and_no_jax(pool):
    import jaxlib  # noqa: F401  # here it is loaded, which shows that the search finds it

    def loaded(pid):
        return Path(f"/proc/{pid}/maps").read_text()

    assert "jaxlib" in loaded(os.getpid())
    assert "libmujoco" in loaded(pool.pids[0])
    assert "jaxlib" not in loaded(pool.pids[0])


def test_closing_ends_the_episode_under_way_and_cancels_the_rest():
    closing = open_pool(episode_steps=100_000)
    futures = [closing.submit(seed, RandomPolicy(6)) for seed in range(3)]
    while not futures[0].running():
        time.sleep(0.01)
    pids = closing.pids
    closing.close()
    assert all(map(gone, pids))
    with pytest.raises(WorkerFailed, match="closed during the episode of seed 0"):
        futures[0].result(timeout=0)
    for future in futures[1:]:
        with pytest.raises(CancelledError):
            future.result(timeout=0)
    with pytest.raises(RuntimeError, match="closed"):
        closing.submit(0, RandomPolicy(6))
    assert closing.restarts == 0


# No "if __name__" guard, and jax in the main module: neither must matter to the workers.
PROGRAM = """
import faulthandler, jax, signal
from coworld_jax.envs import EnvironmentPool, RandomPolicy
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background ignores it
pool = EnvironmentPool("dmc/walker_walk", profile="fast", workers=2, episode_steps=100_000)
futures = [pool.submit(seed, RandomPolicy(6)) for seed in range(4)]
def announce():
    faulthandler.dump_traceback_later(25, exit=True)  # a program that hangs says where
    print(*pool.pids, flush=True)

{wait}
"""
WITH_CARE = """
try:  # from here on a signal may come
    announce()
    futures[0].result()
except KeyboardInterrupt:
    pool.close()
    print("stopped", all(future.done() for future in futures))
"""


def start_program(wait):
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(wait=wait)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    assert program.stdout is not None
    return program, [int(pid) for pid in program.stdout.readline().split()]


# A signal that reaches another thread does not end the main thread's wait for a lock.
FROM_ANOTHER_THREAD = """
import threading, time

def interrupt():
    time.sleep(0.2)  # the main thread waits by then
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)

""" + WITH_CARE.replace("announce()", "announce(); threading.Thread(target=interrupt).start()")


def test_a_killed_parent_leaves_no_orphans():
    program, pids = start_program("announce(); futures[0].result()")
    assert len(pids) == 2
    assert not any(map(gone, pids))
    program.kill()
    program.communicate(timeout=20)
    await_end(pids)


def test_ctrl_c_is_the_parents_to_decide():
    program, pids = start_program(WITH_CARE)
    os.killpg(program.pid, signal.SIGINT)
    out, err = program.communicate(timeout=30)
    assert (out.strip(), err) == ("stopped True", "")
    assert program.returncode == 0
    await_end(pids)


def test_ctrl_c_ends_the_wait_for_an_episode_whichever_thread_it_reaches():
    program, _ = start_program(FROM_ANOTHER_THREAD)
    out, err = program.communicate(timeout=30)
    assert (out.strip(), err) == ("stopped True", "")


def test_a_timeout_of_the_work_itself_is_raised():
    future = InterruptibleFuture()
    threading.Timer(0.1, future.set_exception, (TimeoutError("own"),)).start()
    with pytest.raises(TimeoutError, match="own"):
        future.result()


def test_a_program_that_forgets_to_close_ends_all_the_same():
    program, pids = start_program("announce()")
    _, err = program.communicate(timeout=30)
    assert (program.returncode, err) == (0, "")
    await_end(pids)
