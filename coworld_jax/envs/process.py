"""A worker process as its pool sees it: start, question and answer, death.

Words travel through a socket, frames through memory that both processes map. It has no name, so
that nothing is left of it when the last of them is gone, whatever its end.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import signal
import socket
import subprocess
import sys
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from coworld_jax.envs.graphics import child_environment
from coworld_jax.envs.interface import EnvironmentSpec, Request, Timestep
from coworld_jax.envs.messages import Answer, Failure

_LOG = logging.getLogger(__name__)
_ANSWER_SECONDS = 300.0  # a simulator that is silent for so long is stuck, and killed
_EXIT_SECONDS = 10.0
_WORKER = "COWORLD_JAX_WORKER"  # the task, in a worker process and in all that it starts


class WorkerFailed(RuntimeError):  # noqa: N818  # reads as the sentence that it carries
    """A worker process cannot deliver: it died again and again, or its simulator raised."""


class WorkerDied(Exception):  # noqa: N818
    """The worker process is gone; the message says how. A pool answers it with a new process."""


def refuse_in_worker() -> None:
    """Make sure that this process is no worker and was not started by one.

    A worker imports the user's module. If that starts workers when it is imported, these import it
    again, and so on: the machine fills up with processes.

    Raises:
        ValueError: it is; the sentence names the way out.
    """
    if _WORKER in os.environ:
        raise ValueError(
            f"The worker process of {os.environ[_WORKER]} would start worker processes itself, "
            "because a module that it imports does so at its top level: put that code under "
            'if __name__ == "__main__":'
        )


class WorkerProcess:
    """One process and the connection to it. Used by one thread, but for ``kill``.

    The process lives no longer than the thread that started it.

    Args:
        index: of the worker in its pool, for its name.
        request: the environment that it holds.
        backend: value of ``MUJOCO_GL``.

    Raises:
        ValueError: this process is a worker itself.
    """

    def __init__(self, index: int, request: Request, backend: str) -> None:
        refuse_in_worker()
        self.name = f"worker {index} of {request.task}"
        self.task = request.task
        self.process: subprocess.Popen[bytes] | None = None
        self.spec: EnvironmentSpec
        self._request = request
        self._backend = backend
        self._connection: Connection
        self._frame: np.ndarray  # where the worker writes each frame

    def start(self) -> None:
        """Spawn the process; it says nothing before ``greet``."""
        size = self._request.image_size
        memory = os.memfd_create("coworld_jax frame")
        os.ftruncate(memory, size * size * 3)
        self._frame = np.frombuffer(mmap.mmap(memory, 0), np.uint8).reshape(size, size, 3)
        ours, theirs = socket.socketpair()
        with theirs, os.fdopen(memory):  # which closes them: the process has its own
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-X", "faulthandler"),
                    *("-m", "coworld_jax.envs.worker"),
                    *map(str, (theirs.fileno(), memory, os.getpid())),
                ],
                env=child_environment(self._backend) | {_WORKER: self.task},
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), memory),
                # Out of the terminal's group before the worker can ignore its signals itself.
                process_group=0,
            )
        self._connection = Connection(ours.detach())

    def greet(self) -> None:
        """Say which environment, hear what it is."""
        self.spec = self.ask(self._request)

    def reset(self, seed: int) -> Timestep:
        """``Environment.reset`` over there; raises as `ask` does."""
        return self._timestep(self.ask(("reset", seed)))

    def step(self, action: np.ndarray) -> Timestep:
        """``Environment.step`` over there; raises as `ask` does."""
        return self._timestep(self.ask(("step", action)))

    def ask(self, message: Any) -> Any:
        """The answer to ``message``.

        Raises:
            WorkerDied: there is none, and never will be.
            WorkerFailed: the worker's simulator raised.
        """
        patience = _ANSWER_SECONDS
        try:
            self._connection.send(message)
            if not self._connection.poll(patience):
                self.kill()
                raise WorkerDied(f"{self._label()} was silent for {patience:.0f} s, and killed")
            answer = self._connection.recv()
        except (EOFError, OSError) as error:
            raise WorkerDied(f"{self._label()} {self._ending()}") from error
        if isinstance(answer, Failure):
            if not answer.trace:
                raise WorkerFailed(answer.line)
            _LOG.error("%s raised:\n%s", self._label(), answer.trace)
            raise WorkerFailed(f"{self._label()} raised {answer.line}")
        return answer

    def kill(self) -> None:
        """End the process and what it started; nothing in them is worth keeping."""
        process = self.process
        if process is not None:
            # The worker leads a process group, in which a user's simulator may have servers.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)

    def reap(self) -> None:
        """Forget the process, dead or dying."""
        if self.process is None:
            return
        self.kill()
        self.process.wait()
        self.process = None
        self._connection.close()

    def _timestep(self, answer: Answer) -> Timestep:
        # A copy: the next step overwrites the frame.
        return Timestep(self._frame.copy(), *answer)

    def _label(self) -> str:
        assert self.process is not None
        return f"{self.name} (pid {self.process.pid})"

    def _ending(self) -> str:
        """How the process ended, in words."""
        assert self.process is not None
        try:
            status = self.process.wait(_EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            return "closed its connection"
        if status < 0:
            return f"was killed by {signal.Signals(-status).name}"
        return f"ended with exit status {status}"
