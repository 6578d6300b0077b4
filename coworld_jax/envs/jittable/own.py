"""A user's own jittable environment: one function, marked with `jittable`.

``module:function`` names it, as it does any environment of one's own. The whole of a file
``my_tasks.py``, for functions ``reset``, ``step``, ``render`` and ``state_vector`` of one's own::

    from coworld_jax.envs import JittableEnvironment, Request, jittable, jittable_spec

    @jittable
    def ball(request: Request) -> JittableEnvironment:
        spec = jittable_spec(request, action_size=2, simulator_steps=100, package="jax")
        return JittableEnvironment(spec, reset, step, render, state_vector, may_end=False)

and then ``--task=my_tasks:ball``. The mark says, before anything is made, that no worker process is
needed; the module is imported by the program itself. ``may_end=False`` says that no discount is 0:
only then can a whole run be one program. `experiments.examples.gymnax_pendulum` wraps an
environment of gymnax.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
from collections.abc import Callable

from coworld_jax.envs.interface import EnvironmentSpec, Request
from coworld_jax.envs.jittable.interface import JittableEnvironment
from coworld_jax.envs.naming import parse_task


@dataclasses.dataclass(frozen=True)
class Jittable:
    """A user's function whose environment is jittable; see `jittable`."""

    make: Callable[[Request], JittableEnvironment]

    def __call__(self, request: Request) -> JittableEnvironment:
        """Make the environment, under the options and the action repeat of ``request``.

        Raises:
            ValueError: the function returned something else, or a result has another shape or type.
        """
        from coworld_jax.envs.jittable import options

        environment = self.make(request)
        if not isinstance(environment, JittableEnvironment):
            raise ValueError(
                f"{request.task} returned {environment!r}, but a JittableEnvironment is needed."
            )
        return options.apply(environment, dict(parse_task(request.task).options))


def jittable(make: Callable[[Request], JittableEnvironment]) -> Jittable:
    """Decorator of a function of a `Request` that returns a `JittableEnvironment`.

    The environment's ``step`` is one simulator step: action repeat, ``noise`` and ``sparse`` are
    added to it.
    """
    return Jittable(make)


def jittable_spec(
    request: Request,
    *,
    action_size: int,
    simulator_steps: int,
    action_repeat: int = 1,
    package: str,
) -> EnvironmentSpec:
    """The spec of the environment that ``request`` asks for.

    Args:
        request: what the function was called with.
        action_size: coordinates of an action.
        simulator_steps: of an episode, where the request leaves it open.
        action_repeat: where the request leaves it open.
        package: an installed distribution, whose version is recorded; ``jax`` if the task has none
            of its own.
    """
    repeat, episode_steps = request.counts(action_repeat, simulator_steps)
    return EnvironmentSpec(
        task=request.task,
        action_size=action_size,
        action_repeat=repeat,
        episode_steps=episode_steps,
        image_size=request.image_size,
        profile=request.profile,
        versions={package: importlib.metadata.version(package)},
    )
