"""What the commands share: what a user can mend is told in one sentence, and nothing is ignored."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from absl import flags

from coworld_jax.envs import GraphicsError, VersionError, WorkerFailed
from coworld_jax.records.finite import NonFiniteError

# Their messages are written for users; of an OSError (no permission, a full disk) Python's is.
USER_ERRORS = (
    ValueError,
    OSError,
    ModuleNotFoundError,
    GraphicsError,
    NonFiniteError,
    VersionError,
    WorkerFailed,
)


@contextmanager
def one_sentence(interrupted: str) -> Iterator[None]:
    """End the program with a sentence, and status 1, where a user's error or Ctrl-C comes up.

    Args:
        interrupted: what to say of Ctrl-C.
    """
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(interrupted)
    except USER_ERRORS as error:
        sys.exit(str(error))


def as_path(text: str) -> Path:
    """A path as the user means it: a shell leaves the ~ in ``--out=~/pictures`` as it is."""
    return Path(os.path.expanduser(text))  # noqa: PTH111  # Path's own raises without a home


def refuse_unused(command: str, used: Mapping[str, Collection[str]]) -> None:
    """Make sure that every flag that was given means something to ``command``.

    Args:
        command: key of ``used``.
        used: names of the flags that each command reads; other flags are not looked at.

    Raises:
        ValueError: one does not.
    """
    known = {name for names in used.values() for name in names}
    for name in sorted(known - set(used[command])):
        if flags.FLAGS[name].present:
            users = ", ".join(user for user, names in used.items() if name in names)
            raise ValueError(f"--{name} means nothing to {command}, but to {users}: leave it out.")
