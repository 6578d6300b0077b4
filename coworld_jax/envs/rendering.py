"""Render profiles: what MuJoCo draws besides the scene itself.

Shadows, reflections and multisampling are most of the cost of software rendering (walker, 64x64,
one core: 85 frames/s with them, 2000 without). Leaving them out changes pixels, so a profile has a
name, a dataset keeps it, and an environment that evaluates on the dataset uses the same one.

What is left of the cost are the triangles of meshes, also of those that lie outside the frame.
Without shadows and reflections nothing outside can be seen, so leaving it out changes no pixel.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class RenderProfile(NamedTuple):
    """Differences from a simulator's own settings."""

    hidden: tuple[str, ...]  # suffixes of mujoco.mjtRndFlag.mjRND_* that are switched off
    offsamples: int | None  # multisamples of the offscreen buffer; None keeps the model's own
    culled: bool  # whether what lies outside the frame is left out before it is drawn


PROFILES = {
    # what the authors used
    "full": RenderProfile(hidden=(), offsamples=None, culled=False),
    "fast": RenderProfile(
        hidden=("SHADOW", "REFLECTION", "SKYBOX", "HAZE"), offsamples=0, culled=True
    ),
}

_UNSEEN_GROUP = 5  # of geoms; MuJoCo draws groups 0 to 2 unless it is told otherwise


def prepare_model(model: Any, profile: str) -> None:
    """Set ``profile`` on a MuJoCo model; before its GL context is made, which reads this once."""
    offsamples = PROFILES[profile].offsamples
    if offsamples is not None:
        model.vis.quality.offsamples = offsamples


def prepare_scene(scene: Any, profile: str) -> None:
    """Set ``profile`` on the scene (``MjvScene``) of a camera."""
    import mujoco

    for name in PROFILES[profile].hidden:
        scene.flags[getattr(mujoco.mjtRndFlag, f"mjRND_{name}")] = 0


class Culling:
    """Leaves out the geoms that a camera at rest cannot see, where the profile allows it.

    Args:
        scene: of the camera (``MjvScene``), once updated, so that it knows where the camera stands.
        model: MuJoCo's; the groups of its geoms are changed, which no physics depends on.
        profile: a name in ``PROFILES``.
        window: left, upper, right and lower end of the part of the frame that is used, as shares of
            its width and height.
    """

    def __init__(
        self,
        scene: Any,
        model: Any,
        profile: str,
        window: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0),
    ) -> None:
        self._model, self._profile = model, PROFILES[profile]
        self._groups = np.array(model.geom_group)
        self._boxes = np.array(model.geom_aabb)  # [G, 6]: centre and half sizes in the geom's axes
        self._bounded = np.array(model.geom_rbound) > 0  # all but planes
        # Two eyes, which MuJoCo averages for a picture that is not stereoscopic.
        camera, other = scene.camera
        self._position = (np.array(camera.pos) + np.array(other.pos)) / 2
        forward, up = np.array(camera.forward), np.array(camera.up)
        right = np.cross(forward, up)
        left_end, upper_end, right_end, lower_end = window
        near, top, bottom = camera.frustum_near, camera.frustum_top, camera.frustum_bottom
        # A width of 0 means that the frame's own is to be taken; these frames are square.
        half = camera.frustum_width / 2 or (top - bottom) / 2
        # Normals of the four sides of the pyramid that is seen, inwards: a point p of a side with
        # p = s * (near * forward + x * right + ...) satisfies normal @ p = 0.
        normals = [
            near * right - half * (2 * left_end - 1) * forward,
            -near * right + half * (2 * right_end - 1) * forward,
            -near * up + (top - (top - bottom) * upper_end) * forward,
            near * up - (top - (top - bottom) * lower_end) * forward,
        ]
        self._normals = np.stack([normal / np.linalg.norm(normal) for normal in normals])

    def hide(self, data: Any) -> None:
        """Mark what cannot be seen in the state ``data`` (``MjData``); before a frame is drawn."""
        if not self._profile.culled:
            return
        axes = np.asarray(data.geom_xmat).reshape(-1, 3, 3)  # of each geom, as columns
        normals = self._normals @ axes  # [G, 4, 3], in the geom's own axes
        # How far inside each side the corner of the geom's box lies that lies farthest, in metres.
        farthest = (
            (np.asarray(data.geom_xpos) - self._position) @ self._normals.T
            + np.einsum("gsx,gx->gs", normals, self._boxes[:, :3])
            + np.einsum("gsx,gx->gs", np.abs(normals), self._boxes[:, 3:])
        )
        unseen = self._bounded & (farthest < 0).any(axis=1)
        self._model.geom_group[:] = np.where(unseen, _UNSEEN_GROUP, self._groups)
