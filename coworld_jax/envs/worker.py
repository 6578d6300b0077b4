"""The process that holds one simulator.

    python -m coworld_jax.envs.worker SOCKET MEMORY PARENT

It answers one message at a time on a socket and writes frames into shared memory, both inherited
as file descriptors, and ends with the process whose id is PARENT, also while it imports or builds.
It is started by command line and not by ``multiprocessing``, whose spawn imports the parent's main
module, and jax with it.

Messages to it: the keyword arguments of ``make_environment`` (first), then ``("reset", seed)`` or
``("step", action)``. Answers: ``EnvironmentSpec`` (first), then ``Answer``, or ``Failure``.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import sys
from multiprocessing.connection import Connection

import numpy as np

from coworld_jax.envs.checks import Checker
from coworld_jax.envs.interface import Request, Timestep
from coworld_jax.envs.messages import Answer, Failure
from coworld_jax.envs.suites import make_environment

_DEATH_SIGNAL = 1  # of prctl: the signal that a process gets when its parent dies


def main(descriptor: int, memory: int, parent_id: int) -> None:
    """Serve until the parent closes the connection or dies."""
    _end_with(parent_id)
    # Ctrl-C and SIGTERM reach a whole process group: what they mean is for the parent to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with Connection(descriptor) as parent:
        try:
            _serve(parent, memory)
        except (EOFError, ConnectionError):
            return


def _end_with(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it is gone.

    A look at the connection would not do: it waits for an import, or a build, that may not end.
    """
    ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:  # it died before that
        sys.exit(1)


def _serve(parent: Connection, memory: int) -> None:
    request: Request = parent.recv()
    try:
        environment = make_environment(**request._asdict())
    except (Exception, SystemExit) as error:  # noqa: BLE001  # told to the parent, which raises
        parent.send(Failure.of(error))
        return
    parent.send(environment.spec)
    size = request.image_size
    checker = Checker(environment.spec, size)
    frame = np.frombuffer(mmap.mmap(memory, 0), np.uint8).reshape(size, size, 3)
    while True:
        kind, argument = parent.recv()
        try:
            given: Timestep = getattr(environment, kind)(argument)
            timestep = checker.checked(given, first=kind == "reset")
            frame[:] = timestep.image
            answer: Answer | Failure = Answer(*timestep[1:])
        except (Exception, SystemExit) as error:  # noqa: BLE001  # the parent raises it
            answer = Failure.of(error)
        parent.send(answer)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
