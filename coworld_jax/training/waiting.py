"""Waiting for episodes that are being played, while nobody asks the run to stop."""

from __future__ import annotations

import time
from collections.abc import Collection
from concurrent.futures import Future, wait
from typing import Any

from coworld_jax import hosts
from coworld_jax.training.runtime import StopRequest

_POLL_SECONDS = 0.2


class Stopped(Exception):  # noqa: N818  # nothing has gone wrong
    """The run was asked to stop, and what it waits for takes longer than it may wait."""


class Patience:
    """How long a run waits once it has been asked to stop.

    Args:
        stop: asks.
        grace: seconds that a wait goes on for then, so that the run can be saved as it is. A run
            that leaves without waiting goes on from its last checkpoint.
    """

    def __init__(self, stop: StopRequest, grace: float) -> None:
        self._stop = stop
        self._grace = grace
        self._asked: float | None = None  # monotonic seconds

    def wait(self, futures: Collection[Future[Any]], *, worthwhile: bool = True) -> None:
        """Return when all futures of all hosts are done; an exchange.

        Args:
            futures: of this host.
            worthwhile: whether they are worth the grace.

        Raises:
            Stopped: on all hosts.
        """
        if hosts.count() == 1 and all(future.done() for future in futures):
            return
        while True:
            waiting = wait(futures, _POLL_SECONDS).not_done
            if self._stop.requested and self._asked is None:
                self._asked = time.monotonic()
            grace = self._grace if worthwhile else 0.0
            asked = self._asked is not None and time.monotonic() - self._asked >= grace
            states = hosts.gather([bool(waiting), asked, self._stop.number])
            self._stop.number = max(number for _, _, number in states)
            if not any(busy for busy, _, _ in states):
                return
            if any(late for _, late, _ in states):
                raise Stopped
