"""The `EnvironmentPool` of jittable tasks: threads of this process in place of workers.

A policy of jax is compiled together with the environment, and `rollout.WIDTH` episodes are played
by one call; a random policy counts as one. Any other policy is asked for each action.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from concurrent.futures import Future

import jax
import numpy as np

from coworld_jax.envs.interface import Policy, Request
from coworld_jax.envs.jittable.rollout import WIDTH, DrawnPolicy, JaxPolicy, episode_of, rollout
from coworld_jax.envs.jittable.stepping import SteppedEnvironment
from coworld_jax.envs.policies import RandomPolicy
from coworld_jax.envs.pool import (
    EnvironmentPool,
    InterruptibleFuture,
    Job,
    Keeper,
    check_counts,
    check_reads,
    collect,
)
from coworld_jax.envs.suites import check_request, find_jittable
from coworld_jax.types import Episode


class JittablePool(EnvironmentPool):
    """Threads that collect episodes. ``EnvironmentPool(task)`` makes one where a task is jittable.

    Args:
        task, profile, image_size, action_repeat, episode_steps: see ``make_environment``.
        workers: number of threads.
        max_deaths: means nothing here, where nothing dies.

    Attributes:
        environment: what is played.

    Raises:
        ValueError: an argument is unknown or out of range.
    """

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
        make = find_jittable(request.task)
        assert make is not None, "EnvironmentPool has asked"
        self.environment = make(request)
        self.spec = self.environment.spec
        self._ahead = 2 * WIDTH * workers
        self._keeper, self._workers = Keeper(max_deaths), []
        self._waiting: deque[Job] = deque()  # the urgent ones first
        self._urgent = 0  # of them
        self._changed = threading.Condition()  # of the two above
        self._threads = [
            threading.Thread(target=self._play, name=f"{i} of {request.task}", daemon=True)
            for i in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, seed: int, policy: Policy, *, urgent: bool = True) -> Future[Episode]:
        """See `EnvironmentPool.submit`."""
        future = InterruptibleFuture[Episode]()
        with self._changed:
            if self._keeper.closed:
                raise RuntimeError(f"The pool of {self.spec.task} is closed.")
            place = self._urgent if urgent else len(self._waiting)
            self._waiting.insert(place, Job(seed, policy, future))
            self._urgent += urgent
            self._changed.notify()
        return future

    def close(self) -> None:
        """Cancel the episodes that have not begun; returns when the others have ended."""
        with self._changed:
            self._keeper.closed = True
            while self._waiting:
                self._waiting.pop().future.cancel()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _play(self) -> None:
        """What a thread does: play jobs until the pool is closed."""
        stepped = SteppedEnvironment(self.environment)
        while jobs := self._take():
            jobs = [job for job in jobs if job.future.set_running_or_notify_cancel()]
            try:
                episodes = self._episodes(stepped, jobs)
            except BaseException as error:  # noqa: BLE001  # raised where the result is asked for
                for job in jobs:
                    job.future.set_exception(error)
            else:
                for job, episode in zip(jobs, episodes, strict=True):
                    job.future.set_result(episode)

    def _take(self) -> list[Job]:
        """The next episodes that one call can play; none when the pool is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._keeper.closed)
            if self._keeper.closed:
                return []
            policy = self._waiting[0].policy
            count = WIDTH if isinstance(policy, JaxPolicy | RandomPolicy) else 1
            alike = itertools.takewhile(lambda job: job.policy is policy, self._waiting)
            taken = [self._waiting.popleft() for _ in list(itertools.islice(alike, count))]
            self._urgent = max(0, self._urgent - len(taken))
            return taken

    def _episodes(self, stepped: SteppedEnvironment, jobs: list[Job]) -> list[Episode]:
        if not jobs:  # all were cancelled
            return []
        policy = jobs[0].policy
        check_reads(policy, self.spec)
        if type(policy) is RandomPolicy:
            policy = DrawnPolicy(policy, self.spec.episode_steps)
        if not isinstance(policy, JaxPolicy):
            return [collect(stepped, job.seed, policy) for job in jobs]
        rows = rollout(self.environment, policy, [job.seed for job in jobs])
        rows = jax.tree.map(np.asarray, rows)
        return [episode_of(self.environment, rows, index) for index in range(len(jobs))]
