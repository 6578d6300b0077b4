"""A user's own environment: one function, from gymnasium or dm_env.

A task may be named ``module:function``. The function takes a ``Request`` and returns an
``Environment``; it is imported and called in the worker processes, which find the modules that the
command finds, the current directory among them. The whole of a file ``my_tasks.py``::

    import gymnasium
    from coworld_jax.envs import Environment, Request, from_gymnasium

    def pendulum(request: Request) -> Environment:
        return from_gymnasium(gymnasium.make("Pendulum-v1", render_mode="rgb_array"), request)

and then ``--task=my_tasks:pendulum``, or ``--config.target=my_tasks:pendulum``. What MuJoCo draws
there is the environment's own affair: the render profile is recorded, and up to the function.
"""

from __future__ import annotations

import importlib.metadata
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from coworld_jax.envs.checks import number
from coworld_jax.envs.interface import Environment, EnvironmentSpec, Request, Timestep


class Simulator(NamedTuple):
    """What an adapter needs of a simulator, as functions.

    Observations are arrays, texts, or mappings and sequences of them, nested as one likes.
    """

    reset: Callable[[int], Any]  # seed -> observation
    # Action in the simulator's own units -> observation, reward, discount, whether the episode ends
    step: Callable[[np.ndarray], tuple[Any, float, float, bool]]
    frame: Callable[[], np.ndarray]  # uint8 [height, width, 3]
    close: Callable[[], None]
    low: np.ndarray  # of each coordinate of an action, in the simulator's own units
    high: np.ndarray
    observation: Any  # one that reset gave, for its form


def from_gymnasium(
    environment: Any,
    request: Request,
    *,
    action_repeat: int = 1,
    simulator_steps: int | None = None,
) -> Environment:
    """``environment`` as the rest of the project sees it.

    Args:
        environment: a ``gymnasium.Env`` made with ``render_mode="rgb_array"``, with actions in a
            bounded ``Box``, seeded by ``reset(seed=...)``.
        request: what the function was called with.
        action_repeat: where the request leaves it open.
        simulator_steps: of an episode, where the request leaves it open; None: as registered.

    Returns:
        An environment whose frames are ``environment.render()``, resized, whose actions in [-1, 1]
        cover the ``Box``, and whose extras hold the numbers of the observation as ``state``, images
        and texts left out.

    Raises:
        ValueError: unbounded or discrete actions, no time limit is known, it draws no frames, or it
            has the interface of gym before version 0.26.
    """
    space = environment.action_space
    if not hasattr(space, "low") or not np.issubdtype(space.dtype, np.floating):
        raise ValueError(f"{request.task}: actions must be a bounded Box, not {space}, of floats.")
    if not hasattr(environment, "render_mode"):
        raise ValueError(_old_interface(request.task, "it has no render_mode"))
    if not _takes_seed(environment.reset):
        raise ValueError(_old_interface(request.task, "its reset takes no seed"))
    if environment.render_mode != "rgb_array":
        raise ValueError(
            f"{request.task}: make its gymnasium environment with render_mode='rgb_array', not "
            f"{environment.render_mode!r}."
        )
    limit = simulator_steps
    registered = getattr(environment, "spec", None)
    if limit is None and registered is not None:
        limit = registered.max_episode_steps

    def step(action: np.ndarray) -> tuple[Any, float, float, bool]:
        found = environment.step(action.reshape(space.shape).astype(space.dtype))
        if not isinstance(found, tuple) or len(found) != 5:
            raise ValueError(_old_interface(request.task, f"its step gives {_count(found)}"))
        terminated = bool(number(request.task, "terminated", found[2]))
        truncated = bool(number(request.task, "truncated", found[3]))
        reward = number(request.task, "a reward", found[1])
        return found[0], reward, 1.0 - terminated, terminated or truncated

    def reset(seed: int) -> Any:
        found = environment.reset(seed=seed)
        if not isinstance(found, tuple) or len(found) != 2 or not isinstance(found[1], Mapping):
            raise ValueError(_old_interface(request.task, f"its reset gives {_count(found)}"))
        return found[0]

    simulator = Simulator(
        reset=reset,
        step=step,
        frame=environment.render,
        close=environment.close,
        low=np.ravel(space.low),
        high=np.ravel(space.high),
        observation=reset(0),
    )
    return AdaptedEnvironment(simulator, request, action_repeat, limit, "gymnasium")


def from_dm_env(
    make: Callable[[int], Any],
    request: Request,
    *,
    frame: Callable[[Any], np.ndarray],
    action_repeat: int = 1,
    simulator_steps: int | None = None,
) -> Environment:
    """Environments of ``dm_env`` as the rest of the project sees them.

    Args:
        make: builds the ``dm_env.Environment`` of a seed; called for each episode, because dm_env
            has no other way to a seed.
        request: what the function was called with.
        frame: draws such an environment, uint8 ``[height, width, 3]``, for example
            ``lambda environment: environment.physics.render(64, 64)``.
        action_repeat: where the request leaves it open.
        simulator_steps: of an episode, where the request leaves it open.

    Raises:
        ValueError: unbounded or discrete actions, or no time limit is known.
    """
    environment = make(0)
    space = environment.action_spec()
    if not hasattr(space, "minimum") or not np.issubdtype(space.dtype, np.floating):
        raise ValueError(f"{request.task}: actions must be a BoundedArray of floats, not {space}.")

    def reset(seed: int) -> Any:
        nonlocal environment
        environment.close()
        environment = make(seed)
        return environment.reset().observation

    def step(action: np.ndarray) -> tuple[Any, float, float, bool]:
        inner = environment.step(action.reshape(space.shape).astype(space.dtype))
        reward = number(request.task, "a reward", inner.reward)
        discount = number(request.task, "a discount", inner.discount)
        return inner.observation, reward, discount, inner.last()

    simulator = Simulator(
        reset=reset,
        step=step,
        frame=lambda: frame(environment),
        close=lambda: environment.close(),
        low=np.ravel(np.broadcast_to(space.minimum, space.shape)),
        high=np.ravel(np.broadcast_to(space.maximum, space.shape)),
        observation=environment.reset().observation,
    )
    return AdaptedEnvironment(simulator, request, action_repeat, simulator_steps, "dm_env")


class AdaptedEnvironment:
    """A ``Simulator`` with its actions scaled, its steps counted and its frames resized.

    Args:
        simulator: to adapt; a discount of 0 ends the value, its own end is the episode's too.
        request: what is wanted of it.
        action_repeat: where the request leaves it open.
        simulator_steps: of an episode, where the request leaves it open.
        package: of the interface, for the record of versions.
    """

    def __init__(
        self,
        simulator: Simulator,
        request: Request,
        action_repeat: int,
        simulator_steps: int | None,
        package: str,
    ) -> None:
        if not (np.isfinite(simulator.low).all() and np.isfinite(simulator.high).all()):
            raise ValueError(f"{request.task}: actions must have finite bounds.")
        if simulator_steps is None and request.episode_steps is None:
            raise ValueError(
                f"{request.task} has no time limit: give simulator_steps to the adapter."
            )
        self._simulator = simulator
        # Float64, and in this form: bounds of -1 and 1 leave an action as it is, to the last bit.
        low, high = simulator.low.astype(np.float64), simulator.high.astype(np.float64)
        self._middle, self._reach = (low + high) / 2.0, (high - low) / 2.0
        self._steps: int | None = None  # taken in the running episode
        repeat, episode_steps = request.counts(action_repeat, simulator_steps or 0)
        extras = _state(simulator.observation)
        self.spec = EnvironmentSpec(
            task=request.task,
            action_size=simulator.low.size,
            action_repeat=repeat,
            episode_steps=episode_steps,
            image_size=request.image_size,
            profile=request.profile,
            versions={package: importlib.metadata.version(package)},
            state_size=extras["state"].size if extras else 0,
        )

    def reset(self, seed: int) -> Timestep:
        """See ``Environment.reset``."""
        observation = self._simulator.reset(seed)
        self._steps = 0
        return self._timestep(observation, 0.0, 1.0, ended=False)

    def step(self, action: np.ndarray) -> Timestep:
        """See ``Environment.step``.

        Raises:
            RuntimeError: no episode is running.
        """
        if self._steps is None:
            raise RuntimeError(f"{self.spec.task}: reset(seed) must come before this step.")
        scaled = self._middle + self._reach * np.clip(np.asarray(action, np.float64), -1.0, 1.0)
        total, discount = 0.0, 1.0
        for _ in range(self.spec.action_repeat):
            observation, reward, inner, ended = self._simulator.step(scaled)
            total, discount = total + reward, discount * inner
            if ended:
                break
        self._steps += 1
        return self._timestep(observation, total, discount, ended=ended)

    def close(self) -> None:
        """See ``Environment.close``."""
        self._steps = None
        self._simulator.close()

    def _timestep(
        self, observation: Any, reward: float, discount: float, *, ended: bool
    ) -> Timestep:
        is_last = bool(ended) or self._steps == self.spec.episode_steps
        if is_last:
            self._steps = None
        size = (self.spec.image_size, self.spec.image_size)
        frame = np.asarray(self._simulator.frame())
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
            raise ValueError(
                f"{self.spec.task} drew {frame.dtype} {list(frame.shape)}, but a frame is uint8 "
                "[height, width, 3]."
            )
        picture = Image.fromarray(np.ascontiguousarray(frame))
        image = np.array(picture.resize(size, resample=Image.Resampling.LANCZOS))
        return Timestep(image, reward, float(discount), is_last, _state(observation))


def _state(observation: Any) -> dict[str, np.ndarray]:
    """Extras with all numbers of an observation in a row; without them if it has none."""
    parts = list(_numbers(observation))
    return {"state": np.concatenate(parts).astype(np.float32)} if parts else {}


def _numbers(observation: Any) -> Iterator[np.ndarray]:
    """The arrays of numbers in an observation, in its order; images and texts are left out."""
    if isinstance(observation, Mapping):
        observation = tuple(observation.values())
    if isinstance(observation, tuple | list):
        for part in observation:
            yield from _numbers(part)
        return
    array = np.asarray(observation)
    if array.dtype.kind in "fiub" and array.dtype != np.uint8:
        yield np.ravel(array)


def _takes_seed(reset: Callable[..., Any]) -> bool:
    parameters = inspect.signature(reset).parameters.values()
    return any(one.name == "seed" or one.kind is one.VAR_KEYWORD for one in parameters)


def _count(found: Any) -> str:
    return f"{len(found)} values" if isinstance(found, tuple) else "an observation alone"


def _old_interface(task: str, what: str) -> str:
    return (
        f"{task}: {what}, as in gym before version 0.26: wrap the environment so that "
        "reset(seed=...) gives observation and info, and step(action) gives observation, reward, "
        "terminated, truncated and info."
    )
