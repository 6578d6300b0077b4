"""Become a command that ends with the process that started it, also where that one is killed.

    python -m experiments.studying.child PARENT COMMAND ARGUMENTS...

PARENT is the id of the process that starts this one. The kernel kills the command when PARENT is
gone, so that it holds no workdir that the next start needs. Only Linux can do that; elsewhere the
command goes on alone, and the next start waits for it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_DEATH_SIGNAL = 1  # of prctl: the signal that a process gets when its parent dies


def bound(command: Sequence[str]) -> list[str]:
    """``command`` as a child of this process that ends with it."""
    return [sys.executable, "-m", __spec__.name, str(os.getpid()), *command]


def main(parent: int, command: list[str]) -> None:
    """Replace this process by ``command``; the kernel keeps the request across that."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the request
            sys.exit(f"The process {parent} that started this one is gone.")
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
