"""Waiting for episodes that are being played, while nobody asks the run to stop."""

from __future__ import annotations

import time
from collections.abc import Collection
from concurrent.futures import FIRST_EXCEPTION, Future, wait
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
        grace: seconds, from then on, in which the run waits for episodes, so that it can be saved
            as it is. A run that leaves without them goes on from its last checkpoint.
    """

    def __init__(self, stop: StopRequest, grace: float) -> None:
        self._stop = stop
        self._grace = grace

    def wait(self, futures: Collection[Future[Any]], *, worthwhile: bool = True) -> None:
        """Return when all futures of all hosts are done; an exchange.

        Args:
            futures: of this host; the first error of one is raised at once.
            worthwhile: whether they are worth the grace.

        Raises:
            Stopped: on all hosts.
        """
        grace = self._grace if worthwhile else 0.0
        while True:
            done, waiting = wait(futures, _POLL_SECONDS, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
            late = time.monotonic() - self._stop.since >= grace
            states = hosts.gather([bool(waiting), late, self._stop.received])
            self._stop.agree([received for _, _, received in states])
            if not any(busy for busy, _, _ in states):
                return
            if any(late for _, late, _ in states):
                raise Stopped
