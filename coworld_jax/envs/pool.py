"""Whole episodes from simulators in processes of their own.

One thread here for each worker process: it asks a policy for an action, sends it, waits for the
frame. The processes hold no state that a seed does not give back, so a dead one is replaced and its
episode begun again, with the same outcome. Episodes do not depend on the number of workers.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar, cast

import numpy as np

from coworld_jax.envs.graphics import choose_backend
from coworld_jax.envs.interface import Environment, EnvironmentSpec, Policy, Request, Timestep
from coworld_jax.envs.naming import is_own
from coworld_jax.envs.process import WorkerDied, WorkerFailed, WorkerProcess
from coworld_jax.envs.suites import check_request, find_jittable
from coworld_jax.types import Episode

_LOG = logging.getLogger(__name__)
_JOIN_SECONDS = 10.0
_SIGNAL_SECONDS = 0.5

Value = TypeVar("Value")


class InterruptibleFuture(Future[Value]):
    """A future whose ``result()`` without a timeout notices Ctrl-C within half a second.

    Python runs the handlers of signals between two instructions of the main thread. A signal that
    reaches another thread, or comes just before the wait of ``Future.result``, does not end it.
    """

    def result(self, timeout: float | None = None) -> Value:
        """See ``Future.result``."""
        while timeout is None and not self.done():
            with contextlib.suppress(TimeoutError):  # that of the work itself is raised below
                return super().result(_SIGNAL_SECONDS)
        return super().result(timeout)


class Job(NamedTuple):
    """An episode that is to be collected."""

    seed: int
    policy: Policy
    future: Future[Episode]


class JobQueue:
    """Jobs that wait: urgent ones first, and otherwise in the order in which they came."""

    def __init__(self) -> None:
        self._waiting: queue.PriorityQueue[tuple[bool, int, Job | None]] = queue.PriorityQueue()
        self._count = itertools.count()  # no two jobs are ever compared

    def put(self, job: Job | None, *, urgent: bool = False) -> None:
        """Add a job; None, which is never urgent, tells a thread to end."""
        self._waiting.put((not urgent, next(self._count), job))

    def get(self) -> Job | None:
        """Wait for the next job."""
        return self._waiting.get()[-1]


class Keeper:
    """Keeps the workers of a pool alive while they work, and counts how often one was replaced.

    Args:
        max_deaths: of a worker during one piece of work, after which that is given up.
    """

    def __init__(self, max_deaths: int) -> None:
        self.lock = threading.Lock()
        self.closed = False  # nothing is started any more
        self.restarts = 0
        self._max_deaths = max_deaths

    def until_done(self, worker: WorkerProcess, what: str, work: Callable[[], Any]) -> Any:
        """``work()`` with a living worker, again if that dies.

        Raises:
            WorkerFailed: it died too often, or the pool was closed.
        """
        for deaths in range(1, self._max_deaths + 1):
            try:
                self._ensure_alive(worker)
                return work()
            except WorkerDied as death:
                worker.reap()
                if self.closed:
                    raise WorkerFailed(f"The pool was closed during {what}.") from death
                if deaths == self._max_deaths:
                    raise WorkerFailed(
                        f"{death} during {what}; given up after {deaths} deaths in a row."
                    ) from death
                with self.lock:
                    self.restarts += 1
                _LOG.warning("%s; it is started again and begins anew with %s.", death, what)
        raise AssertionError("the loop returns or raises")

    def _ensure_alive(self, worker: WorkerProcess) -> None:
        if worker.process is not None:
            return
        with self.lock:  # close() kills whatever was started before it
            if self.closed:
                raise WorkerDied(f"{worker.name} was not started")
            worker.start()
        try:
            worker.greet()
        except WorkerFailed:
            worker.reap()
            raise


class EnvironmentPool(AbstractContextManager["EnvironmentPool"]):
    """Workers that collect episodes, or for a jittable task threads: then this is a `JittablePool`.

    Args:
        task, profile, image_size, action_repeat, episode_steps: see ``make_environment``.
        workers: number of processes, each with one environment and one thread here.
        max_deaths: deaths of its worker after which an episode is given up.

    Attributes:
        spec: what every worker's environment is.

    Raises:
        ValueError: an argument is unknown or out of range.
        GraphicsError: nothing renders here.
        VersionError: MuJoCo or dm_control is missing or does not load.
        WorkerFailed: a worker cannot be started, for example because another package is missing.
    """

    spec: EnvironmentSpec

    def __new__(cls, task: str, **settings: Any) -> Self:
        """The class that suits ``task``, as ``pathlib.Path`` finds the one of its system."""
        if find_jittable(task) is not None:
            # Only here: a simulator's pool needs no jax.
            from coworld_jax.envs.jittable.pool import JittablePool

            return super().__new__(cast(type[Self], JittablePool))
        return super().__new__(cls)

    def __init__(
        self,
        task: str,
        *,
        profile: str = "full",
        image_size: int = 64,
        action_repeat: int | None = None,
        episode_steps: int | None = None,
        workers: int = 1,
        max_deaths: int = 3,
    ) -> None:
        check_counts(workers, max_deaths)
        request = check_request(Request(task, profile, image_size, action_repeat, episode_steps))
        backend = choose_backend(optional=is_own(request.task))
        self._keeper = Keeper(max_deaths)
        self._ahead = 2 * workers  # episodes that map() keeps under way
        self._jobs = JobQueue()
        self._workers = [WorkerProcess(index, request, backend) for index in range(workers)]
        started = [InterruptibleFuture[EnvironmentSpec]() for _ in self._workers]
        # Daemons: a program that ends without close() does not wait for them, and their workers
        # end with the program.
        self._threads = [
            threading.Thread(target=self._serve, args=pair, name=pair[0].name, daemon=True)
            for pair in zip(self._workers, started)
        ]
        for thread in self._threads:
            thread.start()
        try:
            self.spec, *_ = [future.result() for future in started]
        except BaseException:
            self.close()
            raise

    @property
    def restarts(self) -> int:
        """How many workers died and were replaced."""
        return self._keeper.restarts

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the workers that live now."""
        processes = [worker.process for worker in self._workers]
        return tuple(process.pid for process in processes if process is not None)

    def submit(self, seed: int, policy: Policy, *, urgent: bool = True) -> Future[Episode]:
        """Collect one episode, a function of ``seed`` and ``policy`` alone.

        Args:
            seed: uint32, of the environment's reset and of the policy's actor.
            policy: its actor is called on a thread of the pool.
            urgent: whether it begins before all episodes that wait and are not urgent.

        Returns:
            A future with the episode: rows = steps + 1, extras ``is_first``, ``is_last`` and
            ``is_terminal`` (bool ``[R]``) and those of the environment. It raises what the policy
            raised, or ``WorkerFailed``.

        Raises:
            RuntimeError: the pool is closed.
        """
        future = InterruptibleFuture[Episode]()
        with self._keeper.lock:
            if self._keeper.closed:
                raise RuntimeError(f"The pool of {self._workers[0].task} is closed.")
            self._jobs.put(Job(seed, policy, future), urgent=urgent)
        return future

    def map(self, seeds: Iterable[int], policy: Policy) -> Iterator[Episode]:
        """Episodes of ``seeds``, in their order.

        Only a few more than the workers can collect are under way, so a slow reader does not fill
        the memory and ``seeds`` may be endless.
        """
        pending: deque[Future[Episode]] = deque()
        try:
            for seed in seeds:
                pending.append(self.submit(seed, policy))
                if len(pending) > self._ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()

    def close(self) -> None:
        """End the workers at once; episodes under way raise ``WorkerFailed``, others are cancelled.

        Returns when the threads have ended: after the policy calls under way, or 10 s.
        """
        with self._keeper.lock:
            if not self._keeper.closed:
                self._keeper.closed = True
                for _ in self._threads:
                    self._jobs.put(None)
            for worker in self._workers:
                worker.kill()
        for thread in self._threads:
            # Not for ever: an interrupt at the wrong instruction may have left a future locked.
            thread.join(_JOIN_SECONDS)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _serve(self, worker: WorkerProcess, started: Future[EnvironmentSpec]) -> None:
        """What a thread does: start the worker, then collect until told to end."""
        self._fulfil(started, worker, "its start", lambda: worker.spec)
        while (job := self._jobs.get()) is not None:
            if self._keeper.closed:
                job.future.cancel()
            if job.future.set_running_or_notify_cancel():
                self._fulfil(
                    job.future,
                    worker,
                    f"the episode of seed {job.seed}",
                    lambda job=job: collect(worker, job.seed, job.policy),  # type: ignore[misc]
                )
        worker.reap()

    def _fulfil(
        self, future: Future[Any], worker: WorkerProcess, what: str, work: Callable[[], Any]
    ) -> None:
        try:
            result = self._keeper.until_done(worker, what, work)
        except BaseException as error:  # noqa: BLE001  # raised where the result is asked for
            future.set_exception(error)
        else:
            future.set_result(result)


def check_counts(workers: int, max_deaths: int) -> None:
    """Make sure that a pool has a worker, and an episode a trial.

    Raises:
        ValueError: it has none.
    """
    if workers < 1 or max_deaths < 1:
        raise ValueError(
            f"workers and max_deaths must be at least 1, not {min(workers, max_deaths)}."
        )


def check_reads(policy: Policy, spec: EnvironmentSpec) -> None:
    """Make sure that an environment gives what ``policy`` reads.

    Raises:
        ValueError: it does not.
    """
    if policy.reads == "state" and spec.state_size == 0:
        raise ValueError(
            f"{spec.task} gives no state vector, which the policy reads: use one of images."
        )


def ready(episode: Episode) -> Future[Episode]:
    """An episode that has been played, as `EnvironmentPool.submit` would give it."""
    future: Future[Episode] = Future()
    future.set_result(episode)
    return future


def episode_extras(discount: np.ndarray, own: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Extras of an episode: ``is_first``, ``is_last``, ``is_terminal``, and the environment's."""
    row = np.arange(len(discount))
    return {
        "is_first": row == 0, "is_last": row == row[-1], "is_terminal": discount == 0.0, **own
    }  # fmt: skip


def collect(worker: WorkerProcess | Environment, seed: int, policy: Policy) -> Episode:
    """One whole episode; actions are kept as the environment takes them, clipped to [-1, 1]."""
    spec = worker.spec
    check_reads(policy, spec)
    actor = policy.episode(seed)
    timesteps: list[Timestep] = [worker.reset(seed)]
    actions = [np.zeros(spec.action_size, np.float32)]
    while not timesteps[-1].is_last:
        seen = timesteps[-1].image if policy.reads == "image" else timesteps[-1].extras["state"]
        action = np.asarray(actor(seen), np.float32)
        if action.shape != (spec.action_size,) or not np.isfinite(action).all():
            raise ValueError(
                f"The policy gave {action} at env_step {len(timesteps)} of seed {seed}, but "
                f"{spec.task} takes {spec.action_size} finite numbers."
            )
        actions.append(np.clip(action, -1.0, 1.0))
        timesteps.append(worker.step(actions[-1]))
    discount = np.array([step.discount for step in timesteps], np.float32)
    own = {key: np.stack([step.extras[key] for step in timesteps]) for key in timesteps[0].extras}
    return Episode(
        image=np.stack([step.image for step in timesteps]),
        action=np.stack(actions),
        reward=np.array([step.reward for step in timesteps], np.float32),
        discount=discount,
        extras=episode_extras(discount, own),
    )
