"""What the commands share: what a user can mend is told in one sentence, and nothing is ignored."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from absl import flags

from coworld_jax import hosts
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


_ANNOUNCE_SECONDS = 600.0  # after which the other hosts are taken for lost


@contextmanager
def one_sentence(interrupted: str) -> Iterator[None]:
    """End the program with a sentence where a user's error (status 1) or Ctrl-C (130) comes up.

    Args:
        interrupted: what to say of Ctrl-C.
    """
    try:
        yield
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except USER_ERRORS as error:
        sys.exit(str(error))


@contextmanager
def ending_together() -> Iterator[None]:
    """End all hosts of a run when one of them fails.

    The others are told of a user's error, and raise it too. What nobody foresaw ends this host at
    once, so that the others lose the connection to it and end as well.
    """
    try:
        try:
            yield
        except hosts.HostError:  # all hosts raise it
            raise
        except USER_ERRORS as error:
            _announce(str(error))
            raise
        except SystemExit as error:
            if error.code == 1 or isinstance(error.code, str):
                _announce(f"ended with: {error.code}")
            raise
    except (hosts.HostError, *USER_ERRORS, SystemExit):
        raise
    except BaseException as error:
        if hosts.count() == 1:
            raise
        interrupted = isinstance(error, KeyboardInterrupt)
        if not interrupted:
            traceback.print_exc()
        print(
            f"Host {hosts.index()} ends here. If another one ended before, its messages say why. "
            "The same command goes on from the last checkpoint.",
            file=sys.stderr,
            flush=True,
        )
        sys.stdout.flush()
        os._exit(128 + signal.SIGINT if interrupted else 1)


def _announce(sentence: str) -> None:
    """Tell the other hosts; end at once if they do not come to hear it.

    Raises:
        HostError: all hosts know.
    """
    if hosts.count() == 1:
        return
    print(f"Host {hosts.index()} tells the others: {sentence}", file=sys.stderr, flush=True)
    deadline = threading.Timer(_ANNOUNCE_SECONDS, os._exit, (1,))
    deadline.daemon = True
    deadline.start()
    try:
        hosts.announce(sentence)
    finally:
        deadline.cancel()


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
