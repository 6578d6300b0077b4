"""The suites of tasks: the one table in which a suite is entered.

A suite is a module with ``tasks``, the names after the slash, and ``make``, which builds one; it
imports its simulator inside ``make``, so that naming a task costs nothing.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import NamedTuple, Protocol

from coworld_jax.envs import dmc
from coworld_jax.envs.graphics import choose_backend
from coworld_jax.envs.interface import Environment
from coworld_jax.envs.rendering import PROFILES


class _Make(Protocol):
    def __call__(
        self,
        name: str,
        *,
        profile: str,
        image_size: int,
        action_repeat: int | None,
        episode_steps: int | None,
    ) -> Environment:
        """Build the task ``name`` of the suite; None stands for the suite's own figure."""


class _Suite(NamedTuple):
    tasks: Callable[[], tuple[str, ...]]
    make: _Make


_SUITES = {
    "dmc": _Suite(tasks=dmc.tasks, make=dmc.make),
}

TASKS = tuple(f"{suite}/{name}" for suite, entry in _SUITES.items() for name in entry.tasks())


def check_request(
    task: str,
    *,
    profile: str,
    image_size: int,
    action_repeat: int | None,
    episode_steps: int | None,
) -> None:
    """Refuse arguments of ``make_environment`` before a simulator is started.

    Raises:
        ValueError: one of them is unknown or out of range.
    """
    if task not in TASKS:
        near = difflib.get_close_matches(task, TASKS, n=1, cutoff=0.0)
        raise ValueError(f"No task {task!r}; did you mean {near[0]!r}? Known: {', '.join(TASKS)}.")
    if profile not in PROFILES:
        raise ValueError(f"No render profile {profile!r}; known: {', '.join(PROFILES)}.")
    counts = {
        "image_size": image_size,
        "action_repeat": action_repeat,
        "episode_steps": episode_steps,
    }
    for name, count in counts.items():
        if count is not None and count < 1:
            raise ValueError(f"{name} of {task} must be at least 1, not {count}.")


def make_environment(
    task: str,
    *,
    profile: str = "full",
    image_size: int = 64,
    action_repeat: int | None = None,
    episode_steps: int | None = None,
) -> Environment:
    """Build the simulator of ``task`` in this process, on this thread.

    Args:
        task: a name in ``TASKS``.
        profile: a name in ``PROFILES``.
        image_size: height and width of the frames in pixels.
        action_repeat: simulator steps per env_step; None: as the authors use the suite.
        episode_steps: env_steps until the time limit; None: as the authors use the suite.

    Raises:
        ValueError: an argument is unknown or out of range.
        VersionError: a package of the simulator is missing or does not work.
        GraphicsError: no way to render without a screen.
    """
    check_request(
        task,
        profile=profile,
        image_size=image_size,
        action_repeat=action_repeat,
        episode_steps=episode_steps,
    )
    choose_backend()
    suite, name = task.split("/", 1)
    return _SUITES[suite].make(
        name,
        profile=profile,
        image_size=image_size,
        action_repeat=action_repeat,
        episode_steps=episode_steps,
    )
