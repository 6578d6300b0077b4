"""The suites of tasks: the one table in which a suite is entered.

A suite is a module with ``tasks``, the names after the slash, and ``make``, which builds one; it
imports its simulator inside ``make``, so that naming a task costs nothing.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from coworld_jax.envs import dmc, metaworld, robodesk
from coworld_jax.envs.graphics import GraphicsError, choose_backend
from coworld_jax.envs.interface import Environment, EnvironmentSpec, Request
from coworld_jax.envs.jittable import planar
from coworld_jax.envs.jittable.interface import JittableEnvironment
from coworld_jax.envs.jittable.own import Jittable
from coworld_jax.envs.naming import is_own, parse_task
from coworld_jax.envs.rendering import PROFILES
from coworld_jax.envs.versions import VersionError
from coworld_jax.envs.wrappers import apply_options


class _Suite(NamedTuple):
    tasks: Callable[[], tuple[str, ...]]
    make: Callable[[str, Request], Environment]
    options: frozenset[str]  # of names of its tasks


_SUITES = {
    "dmc": _Suite(tasks=dmc.tasks, make=dmc.make, options=frozenset({"background", "noise"})),
    "metaworld": _Suite(
        tasks=metaworld.tasks, make=metaworld.make, options=frozenset({"noise", "sparse"})
    ),
    "robodesk": _Suite(
        tasks=robodesk.tasks,
        make=robodesk.make,
        options=frozenset({"corrected", "noise", "sparse"}),
    ),
}

# A suite of environments that are functions of jax: `find_jittable` makes its tasks.
_JITTABLE = "planar"
_OWN_OPTIONS = frozenset({"noise", "sparse"})
_OPTIONS = {suite: entry.options for suite, entry in _SUITES.items()} | {
    "": _OWN_OPTIONS,
    _JITTABLE: planar.OPTIONS,
}

TASKS = (
    *(f"{suite}/{name}" for suite, entry in _SUITES.items() for name in entry.tasks()),
    *(f"{_JITTABLE}/{name}" for name in planar.tasks()),
)


def check_request(request: Request) -> Request:
    """The request with its task's name in the one spelling, if it can be met.

    No simulator is started, or imported, for this.

    Raises:
        ValueError: a part of it is unknown or out of range.
    """
    task = parse_task(request.task)
    base = str(task._replace(options=()))
    if base not in TASKS and ":" not in base:
        near = difflib.get_close_matches(base, TASKS, n=3, cutoff=0.0)
        raise ValueError(
            f"No task {base!r}; did you mean {near[0]!r}? Nearest: {', '.join(near)}; suites: "
            f"{', '.join([*_SUITES, _JITTABLE])}."
        )
    options = _OPTIONS[task.suite]
    for option, _ in task.options:
        if option not in options:
            raise ValueError(f"{base} has no option {option}; it has {', '.join(sorted(options))}.")
    if task.suite == _JITTABLE:
        planar.check(task)
    if request.profile not in PROFILES:
        raise ValueError(f"No render profile {request.profile!r}; known: {', '.join(PROFILES)}.")
    for name in ("image_size", "action_repeat", "episode_steps"):
        count = getattr(request, name)
        if count is not None and count < 1:
            raise ValueError(f"{name} of {task} must be at least 1, not {count}.")
    return request._replace(task=str(task))


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
        task: a name in ``TASKS``, or ``module:function`` of your own (see ``adapters``), perhaps
            with options (see ``naming``).
        profile: a name in ``PROFILES``.
        image_size: height and width of the frames in pixels.
        action_repeat: simulator steps per env_step; None: as the authors use the suite.
        episode_steps: env_steps until the time limit; None: as the authors use the suite.

    Raises:
        ValueError: an argument is unknown or out of range.
        VersionError: a package of the simulator is missing or does not work.
        GraphicsError: no way to render without a screen.
    """
    request = check_request(Request(task, profile, image_size, action_repeat, episode_steps))
    name = parse_task(request.task)
    if (make := find_jittable(request.task)) is not None:
        # Only here: a simulator's process needs no jax.
        from coworld_jax.envs.jittable.stepping import SteppedEnvironment

        return SteppedEnvironment(make(request))
    choose_backend(optional=is_own(request.task))
    if name.suite:
        environment = _SUITES[name.suite].make(name.name, request)
    else:
        environment = _own(name.name)(request)
        if isinstance(environment, JittableEnvironment):
            raise ValueError(
                f"{name.name} is jittable: write @jittable above its function, and name the module "
                "in which it stands."
            )
        # An environment of gymnasium has a spec as well, and of another kind.
        if not isinstance(getattr(environment, "spec", None), EnvironmentSpec):
            raise ValueError(
                f"{name.name} returned {environment!r}, but an Environment is needed: return "
                "from_gymnasium(environment, request), or what from_dm_env makes."
            )
    return apply_options(environment, name)


def find_jittable(task: str) -> Callable[[Request], JittableEnvironment] | None:
    """What makes ``task`` as functions of jax, or None where it has a simulator.

    A user's own is imported for this, but only where its file mentions `jittable`: what another
    module does when it is imported is done in a worker.

    Raises:
        ValueError: an option is unknown or odd, or there is no such function.
    """
    name = parse_task(task)
    if ":" not in name.name:
        return planar.make if name.suite == _JITTABLE else None
    if not _mentions_jittable(name.name.partition(":")[0]):
        return None
    _choose_for_import()
    function = _own(name.name)
    return function if isinstance(function, Jittable) else None


@functools.cache
def _choose_for_import() -> None:
    """Choose a backend for a renderer that a module may import; it may need none."""
    with contextlib.suppress(GraphicsError, VersionError):
        choose_backend(optional=True)


def _mentions_jittable(module: str) -> bool:
    """Whether the source of a module has the word; False where there is none to read."""
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):  # a worker says what is wrong
        return False
    source = None if found is None else found.origin
    if source is None or not source.endswith(".py"):
        return False
    return b"jittable" in Path(source).read_bytes()


def _own(name: str) -> Callable[[Request], Environment]:
    """The user's function ``module:function``.

    Raises:
        ValueError: there is none.
    """
    module, _, function = name.partition(":")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # something that the module needs
        raise ValueError(
            f"{name}: {error}. Its folder must be the current one, or in PYTHONPATH."
        ) from error
    try:
        return getattr(found, function)
    except AttributeError as error:
        raise ValueError(f"{name}: {error}.") from error
