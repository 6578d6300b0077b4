"""Render profiles: what MuJoCo draws besides the scene itself.

Shadows, reflections and multisampling are most of the cost of software rendering (walker, 64x64,
one core: 85 frames/s with them, 2000 without). Leaving them out changes pixels, so a profile has a
name, a dataset keeps it, and an environment that evaluates on the dataset uses the same one.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class RenderProfile(NamedTuple):
    """Differences from a simulator's own settings."""

    hidden: tuple[str, ...]  # suffixes of mujoco.mjtRndFlag.mjRND_* that are switched off
    offsamples: int | None  # multisamples of the offscreen buffer; None keeps the model's own


PROFILES = {
    "full": RenderProfile(hidden=(), offsamples=None),  # what the authors used
    "fast": RenderProfile(hidden=("SHADOW", "REFLECTION", "SKYBOX", "HAZE"), offsamples=0),
}


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
