"""RoboDesk: a Franka arm at a desk, 18 tasks, 5 actions.

Dense reward of 0 to 1 per step, 500 steps, never terminated, free camera above the desk.

**A known fault of the package is kept**, so that returns compare with published ones: it stores the
objects' first positions as views of live memory, which move with the objects. What the rewards
call pushed, lifted or displaced is therefore always zero: ``upright_block_off_table`` pays at most
about 0.4 per step, and ``open_slide`` a constant 0.1. The option ``corrected`` in a task's name
(``robodesk/upright_block_off_table+corrected``) stores copies instead.

``success`` is the package's own success reward of the task, and not the flag of the authors'
wrapper, which is always 1.
"""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
from PIL import Image

from coworld_jax.envs.interface import EnvironmentSpec, Request, Timestep
from coworld_jax.envs.naming import parse_task
from coworld_jax.envs.rendering import Culling, prepare_model, prepare_scene
from coworld_jax.envs.versions import explained, installed_versions

PACKAGES = ("mujoco", "dm_control", "robodesk")
_ACTION_REPEAT = 1
_SIMULATOR_STEPS = 500

# How the package draws: pixels, the free camera, and the part of the frame that is kept.
_DRAWN_SIZE = 120
_DISTANCE, _AZIMUTH, _ELEVATION, _LOOK_AT = 1.8, 90, -60, (0, 0.535, 1.1)
_CROP = (16.75, 25.0, 105.0, 88.75)  # left, upper, right, lower
_WINDOW = (16 / 120, 24 / 120, 106 / 120, 90 / 120)  # the same as shares, with a pixel to spare

# The package's own list, so that naming a task costs no import; a test compares the two.
_TASKS = """
open_slide open_drawer push_green push_blue push_red stack upright_block_off_table
flat_block_off_table ball_off_table upright_block_in_bin flat_block_in_bin ball_in_bin
upright_block_in_shelf flat_block_in_shelf ball_in_shelf lift_upright_block lift_flat_block
lift_ball
"""


def tasks() -> tuple[str, ...]:
    """Names of the suite's tasks."""
    return tuple(_TASKS.split())


def make(name: str, request: Request) -> RobodeskEnvironment:
    """Build task ``name``; see ``suites.make_environment``."""
    with explained(PACKAGES):
        return RobodeskEnvironment(name, request)


class RobodeskEnvironment:
    """One task with its camera.

    Extras: ``state``, positions and velocities of robot and objects and the end effector's place,
    float32 ``[76]``, and ``success``, bool ``[]``.
    """

    def __init__(self, name: str, request: Request) -> None:
        from dm_control.mujoco import engine

        with contextlib.redirect_stderr(io.StringIO()):  # old gym speaks of its own age
            from robodesk import RoboDesk

        action_repeat, episode_steps = request.counts(_ACTION_REPEAT, _SIMULATOR_STEPS)
        # Time limit and repeat are counted here, in env_steps.
        self._simulator: Any = RoboDesk(task=name, episode_length=0)
        # It would build a camera for every frame and resize with a filter of Pillow 9.
        self._simulator.render = lambda **_: None
        self._name = name
        self._corrected = parse_task(request.task).chosen("corrected") is not None
        self._physics = self._simulator.physics
        prepare_model(self._physics.model, request.profile)
        self._camera = engine.Camera(self._physics, _DRAWN_SIZE, _DRAWN_SIZE, camera_id=-1)
        view = self._camera._render_camera  # dm_control has no public way to a free camera
        view.distance, view.azimuth, view.elevation = _DISTANCE, _AZIMUTH, _ELEVATION
        view.lookat[:] = _LOOK_AT
        prepare_scene(self._camera.scene, request.profile)
        self._camera.update()
        self._culling = Culling(self._camera.scene, self._physics.model, request.profile, _WINDOW)
        self._steps: int | None = None  # taken in the running episode
        self.spec = EnvironmentSpec(
            task=request.task,
            action_size=int(self._simulator.action_dim),
            action_repeat=action_repeat,
            episode_steps=episode_steps,
            image_size=request.image_size,
            profile=request.profile,
            versions=installed_versions(PACKAGES),
            state_size=self._state().size,
        )
        self._frame()  # a GL fault shows here, and not in the first episode

    def reset(self, seed: int) -> Timestep:
        """See ``Environment.reset``."""
        # The package draws from NumPy's global state, which is put back as it was.
        before = np.random.get_state()  # noqa: NPY002
        np.random.seed(seed)  # noqa: NPY002
        try:
            self._simulator.reset()
        finally:
            np.random.set_state(before)  # noqa: NPY002
        if self._corrected:
            places = self._simulator.original_pos
            self._simulator.original_pos = {key: places[key].copy() for key in places}
        self._steps = 0
        return self._timestep(0.0, False)

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
            _, inner, _, _ = self._simulator.step(clipped)
            reward += float(inner)
            success = success or self._simulator._get_task_reward(self._name, "success") > 0
        self._steps += 1
        return self._timestep(reward, success)

    def close(self) -> None:
        """See ``Environment.close``."""
        self._steps = None
        self._physics.free()
        self._simulator.physics_copy.free()

    def _timestep(self, reward: float, success: bool) -> Timestep:
        is_last = self._steps == self.spec.episode_steps
        if is_last:
            self._steps = None
        extras = {"state": self._state(), "success": np.array(bool(success))}
        return Timestep(self._frame(), reward, 1.0, is_last, extras)

    def _state(self) -> np.ndarray:
        data = self._physics.data
        hand = self._physics.named.data.site_xpos["end_effector"]
        return np.concatenate([data.qpos, data.qvel, hand]).astype(np.float32)

    def _frame(self) -> np.ndarray:
        self._culling.hide(self._physics.data)
        drawn = Image.fromarray(self._camera.render()).crop(_CROP)
        size = (self.spec.image_size, self.spec.image_size)
        # LANCZOS: what Pillow called ANTIALIAS before version 10.
        return np.array(drawn.resize(size, resample=Image.Resampling.LANCZOS))
