"""Meta-World (version 3 of the package, its "v2" rewards): a Sawyer arm, 50 tasks, 4 actions.

Dense reward of 0 to 10 per step, 500 steps, never terminated. Object positions are drawn anew at
each reset. The camera is ``corner``. MuJoCo draws it turned by 180 degrees; one flip of the rows
gives the frames of the paper: upright, mirrored, the robot at the left.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from coworld_jax.envs.interface import EnvironmentSpec, Request, Timestep
from coworld_jax.envs.rendering import prepare_model, prepare_scene
from coworld_jax.envs.versions import explained, installed_versions

PACKAGES = ("mujoco", "metaworld", "gymnasium")
_ACTION_REPEAT = 1
_SIMULATOR_STEPS = 500  # of an episode; the simulator refuses another one
_CAMERA = "corner"
_VERSION = "v3"  # of the package's own names

# The package's own list, so that naming a task costs no import; a test compares the two.
_TASKS = """
assembly basketball bin-picking box-close button-press button-press-topdown
button-press-topdown-wall button-press-wall coffee-button coffee-pull coffee-push dial-turn
disassemble door-close door-lock door-open door-unlock drawer-close drawer-open faucet-close
faucet-open hammer hand-insert handle-press handle-press-side handle-pull handle-pull-side
lever-pull peg-insert-side peg-unplug-side pick-out-of-hole pick-place pick-place-wall plate-slide
plate-slide-back plate-slide-back-side plate-slide-side push push-back push-wall reach reach-wall
shelf-place soccer stick-pull stick-push sweep sweep-into window-close window-open
"""


def tasks() -> tuple[str, ...]:
    """Names of the suite's tasks."""
    return tuple(_TASKS.split())


def make(name: str, request: Request) -> MetaworldEnvironment:
    """Build task ``name``; see ``suites.make_environment``."""
    with explained(PACKAGES):
        return MetaworldEnvironment(name, request)


class MetaworldEnvironment:
    """One task with its camera.

    Extras: ``state``, the simulator's own observation with the goal in it, float32 ``[39]``, and
    ``success``, bool ``[]``.
    """

    def __init__(self, name: str, request: Request) -> None:
        import mujoco
        from metaworld.env_dict import ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE

        action_repeat, episode_steps = request.counts(_ACTION_REPEAT, _SIMULATOR_STEPS)
        if action_repeat * episode_steps > _SIMULATOR_STEPS:
            raise ValueError(
                f"{request.task} ends after {_SIMULATOR_STEPS} simulator steps: {episode_steps} "
                f"env_steps of {action_repeat} are too many."
            )
        make_simulator: Any = ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE[
            f"{name}-{_VERSION}-goal-observable"
        ]
        self._simulator: Any = make_simulator(seed=0)  # it resets itself; 0 spares the global state
        # Otherwise every reset repeats the first positions, or draws them from the global state.
        self._simulator._freeze_rand_vec = False
        self._simulator.seeded_rand_vec = True
        prepare_model(self._simulator.model, request.profile)
        # Its own: the simulator's would render at another size first, and without a profile.
        self._renderer = mujoco.Renderer(
            self._simulator.model, request.image_size, request.image_size
        )
        prepare_scene(self._renderer.scene, request.profile)
        self._steps: int | None = None  # taken in the running episode
        self.spec = EnvironmentSpec(
            task=request.task,
            action_size=4,
            action_repeat=action_repeat,
            episode_steps=episode_steps,
            image_size=request.image_size,
            profile=request.profile,
            versions=installed_versions(PACKAGES),
            state_size=39,
        )
        self._frame()  # a GL fault shows here, and not in the first episode

    def reset(self, seed: int) -> Timestep:
        """See ``Environment.reset``."""
        self._simulator.seed(seed)  # reset(seed=...) would be ignored
        state, _ = self._simulator.reset()
        self._steps = 0
        return self._timestep(state, 0.0, False)

    def step(self, action: np.ndarray) -> Timestep:
        """See ``Environment.step``.

        Raises:
            RuntimeError: no episode is running.
        """
        if self._steps is None:
            raise RuntimeError(f"{self.spec.task}: reset(seed) must come before this step.")
        clipped = np.clip(action, -1.0, 1.0)
        reward, success = 0.0, False
        for _ in range(self.spec.action_repeat):
            state, inner, _, _, facts = self._simulator.step(clipped)
            reward += float(inner)
            success = success or bool(facts["success"])
        self._steps += 1
        return self._timestep(state, reward, success)

    def close(self) -> None:
        """See ``Environment.close``."""
        self._steps = None
        self._renderer.close()
        self._simulator.close()

    def _timestep(self, state: np.ndarray, reward: float, success: bool) -> Timestep:
        is_last = self._steps == self.spec.episode_steps
        if is_last:
            self._steps = None
        extras = {"state": state.astype(np.float32), "success": np.array(success)}
        return Timestep(self._frame(), reward, 1.0, is_last, extras)

    def _frame(self) -> np.ndarray:
        self._renderer.update_scene(self._simulator.data, camera=_CAMERA)
        return np.ascontiguousarray(self._renderer.render()[::-1])
