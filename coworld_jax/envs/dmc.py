"""The DeepMind Control suite: two published tasks and the paper's six changed worlds.

The changed worlds are edits of dm_control's own XML, made when the model is loaded: tilted gravity
with a camera tilted to match (a slope, seen as level ground would be), or a foot shrunk to nothing.
Rewards are the published ones.

The option ``background`` (or ``background=FOLDER``) puts moving pictures behind the body: in place
of the sky and of the ground, of which nothing then tells how fast the body moves.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np

from coworld_jax.envs.background import Background
from coworld_jax.envs.interface import EnvironmentSpec, Request, Timestep
from coworld_jax.envs.naming import parse_task
from coworld_jax.envs.rendering import prepare_model, prepare_scene
from coworld_jax.envs.versions import explained, installed_versions

PACKAGES = ("mujoco", "dm_control")
_ACTION_REPEAT = 2
_SIMULATOR_STEPS = 1000  # of an episode, all repeats counted: the suite's own limit
_CAMERA = 0  # "side", which follows the body


class _Domain(NamedTuple):
    """How dm_control builds the task in ``dm_control.suite.<module>``."""

    module: str
    task_class: str
    task_arguments: Mapping[str, float]
    control_timestep: float | None  # seconds; None: one physics step


class _Edit(NamedTuple):
    """Attributes of the one element at ``path``; None removes an attribute."""

    path: str
    attributes: Mapping[str, str | None]


_WALKER = _Domain("walker", "PlanarWalker", {"move_speed": 1.0}, 0.025)
_CHEETAH = _Domain("cheetah", "Cheetah", {}, None)

# Both grounds end 2 m behind the start; a longer one ends far behind as well as far ahead.
_WALKER_GROUND = _Edit(".//geom[@name='floor']", {"size": "1000 .8 .2"})
_CHEETAH_GROUND = _Edit(".//geom[@name='ground']", {"size": "1000 .8 .5"})


def _slope(gravity_x: float, camera: str) -> tuple[_Edit, ...]:
    """Gravity tilted by 15 degrees towards +x or -x, and the camera's three Euler angles."""
    return (
        _Edit("./option", {"gravity": f"{gravity_x} 0 -9.47"}),
        _Edit(".//camera[@name='side']", {"euler": camera, "quat": None}),
    )


def _shrunk(geom: str) -> tuple[_Edit, ...]:
    return (_Edit(f".//geom[@name='{geom}']", {"size": ".001 .001"}),)


_TASKS: dict[str, tuple[_Domain, tuple[_Edit, ...]]] = {
    "walker_walk": (_WALKER, ()),
    "walker_downhill": (_WALKER, (_WALKER_GROUND, *_slope(2.54, "60 0 15"))),
    "walker_uphill": (_WALKER, (_WALKER_GROUND, *_slope(-2.54, "60 0 -15"))),
    "walker_nofoot": (_WALKER, (_WALKER_GROUND, *_shrunk("right_foot"))),
    "cheetah_run": (_CHEETAH, ()),
    "cheetah_downhill": (_CHEETAH, (_CHEETAH_GROUND, *_slope(2.54, "90 0 15"))),
    "cheetah_uphill": (_CHEETAH, (_CHEETAH_GROUND, *_slope(-2.54, "90 0 -15"))),
    "cheetah_nopaw": (_CHEETAH, (_CHEETAH_GROUND, *_shrunk("ffoot"))),
}


def tasks() -> tuple[str, ...]:
    """Names of the suite's tasks."""
    return tuple(_TASKS)


def make(name: str, request: Request) -> DmcEnvironment:
    """Build task ``name``; see ``suites.make_environment``."""
    with explained(PACKAGES):
        return DmcEnvironment(name, request)


class DmcEnvironment:
    """One task with its camera. Extras: ``state``, the suite's own observation, float32 ``[N]``."""

    def __init__(self, name: str, request: Request) -> None:
        from dm_control.mujoco import engine
        from dm_control.rl import control

        self._domain, edits = _TASKS[name]
        self._suite = importlib.import_module(f"dm_control.suite.{self._domain.module}")
        self._control = control
        self._physics = _load(self._suite, edits)
        prepare_model(self._physics.model, request.profile)
        # Kept: physics.render() would build a camera, with its scene, for every frame.
        size = request.image_size
        self._camera = engine.Camera(self._physics, size, size, _CAMERA)
        prepare_scene(self._camera.scene, request.profile)
        folder = parse_task(request.task).chosen("background")
        self._background = None if folder is None else Background(folder, size)
        # By geom, and last for what is none: whether it belongs to a body, and not to the world.
        self._of_a_body = np.append(np.array(self._physics.model.geom_bodyid) > 0, False)
        self._simulator: Any = None  # of the running episode
        self._steps = 0  # taken in it
        action_repeat, episode_steps = request.counts(_ACTION_REPEAT, _SIMULATOR_STEPS)
        self.spec = EnvironmentSpec(
            task=request.task,
            action_size=int(self._physics.model.nu),
            action_repeat=action_repeat,
            episode_steps=episode_steps,
            image_size=size,
            profile=request.profile,
            versions=installed_versions(PACKAGES),
            state_size=_state(self._task(0).get_observation(self._physics)).size,
        )
        self._camera.render()  # a GL fault shows here, and not in the first episode

    def reset(self, seed: int) -> Timestep:
        """See ``Environment.reset``."""
        # The time limit is counted here, in env_steps; what ends sooner is the task itself.
        self._simulator = self._control.Environment(
            self._physics, self._task(seed), control_timestep=self._domain.control_timestep
        )
        self._steps = 0
        if self._background is not None:
            self._background.begin(seed)
        return self._timestep(self._simulator.reset().observation, 0.0, 1.0)

    def step(self, action: np.ndarray) -> Timestep:
        """See ``Environment.step``.

        Raises:
            RuntimeError: no episode is running.
        """
        if self._simulator is None:
            raise RuntimeError(f"{self.spec.task}: reset(seed) must come before this step.")
        clipped = np.clip(action, -1.0, 1.0)
        reward = 0.0
        for _ in range(self.spec.action_repeat):
            inner = self._simulator.step(clipped)
            reward += inner.reward
            if inner.last():
                break
        self._steps += 1
        return self._timestep(inner.observation, reward, inner.discount)

    def close(self) -> None:
        """See ``Environment.close``."""
        self._simulator = None
        self._physics.free()

    def _timestep(
        self, observation: Mapping[str, np.ndarray], reward: float, discount: float
    ) -> Timestep:
        is_last = discount == 0.0 or self._steps >= self.spec.episode_steps
        if is_last:
            self._simulator = None
        return Timestep(self._frame(), reward, discount, is_last, {"state": _state(observation)})

    def _task(self, seed: int) -> Any:
        """A new task for the same physics: its random state is the seed's alone."""
        make_task = getattr(self._suite, self._domain.task_class)
        return make_task(random=seed, **self._domain.task_arguments)

    def _frame(self) -> np.ndarray:
        # The camera reuses its buffer and hands out a flipped view of it.
        image = np.array(self._camera.render(), order="C")
        if self._background is None:
            return image
        geoms = self._camera.render(segmentation=True)[..., 0]  # -1 where there is none
        body = self._of_a_body[geoms][..., None]
        return np.where(body, image, self._background.frame(self._steps))


def _state(observation: Mapping[str, np.ndarray]) -> np.ndarray:
    """The suite's observation in a row, float32 ``[N]``."""
    return np.concatenate([np.ravel(part) for part in observation.values()]).astype(np.float32)


def _load(suite: ModuleType, edits: tuple[_Edit, ...]) -> Any:
    """The suite's physics after ``edits`` of its XML."""
    source, assets = suite.get_model_and_assets()
    root = ElementTree.fromstring(source)
    for edit in edits:
        elements = root.findall(edit.path)
        if not elements and edit.path == "./option":  # optional in MuJoCo's format
            elements = [ElementTree.SubElement(root, "option")]
        if len(elements) != 1:
            raise RuntimeError(
                f"dm_control's {suite.__name__} has {len(elements)} elements {edit.path}, not one."
            )
        for key, value in edit.attributes.items():
            if value is None:
                elements[0].attrib.pop(key, None)
            else:
                elements[0].set(key, value)
    return suite.Physics.from_xml_string(ElementTree.tostring(root, encoding="unicode"), assets)
