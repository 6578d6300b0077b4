"""Which OpenGL renders here without a screen.

MuJoCo reads ``MUJOCO_GL`` when it is imported, and a failed attempt cannot be undone in the same
process; so each backend is tried in a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from coworld_jax.envs.versions import VersionError, explained, installed_versions

BACKENDS = ("egl", "osmesa")  # in the order of trial: EGL also uses a GPU, and Mesa still ships it
_VARIABLE = "MUJOCO_GL"
_CHECKED = "COWORLD_JAX_CHECKED_GL"  # the value that rendered, for this process and its children
_NO_RENDERING = "disabled"  # dm_control's word for it
_PACKAGES = ("mujoco", "dm_control")
_TRIAL_SECONDS = 120.0
_TRIAL = "from coworld_jax.envs.graphics import render_once; render_once({render})"
_SCENE = "<mujoco><worldbody><light pos='0 0 3'/><geom size='.5'/></worldbody></mujoco>"


class GraphicsError(RuntimeError):
    """Nothing renders on this machine."""


def choose_backend() -> str:
    """The value of ``MUJOCO_GL`` that renders, also written into this process's environment.

    A value that the user set is the only one tried. The trial takes about a second and happens
    once: this process and its children read the answer from the environment.

    Raises:
        GraphicsError: no backend renders; the sentence names the Debian packages.
        VersionError: MuJoCo or dm_control is missing or does not load.
    """
    wanted = os.environ.get(_VARIABLE)
    if wanted and os.environ.get(_CHECKED) == wanted:
        return wanted
    installed_versions(_PACKAGES)
    reasons = []
    for backend in (wanted,) if wanted else BACKENDS:
        reason = _trial(backend)
        if reason is None:
            os.environ[_VARIABLE] = os.environ[_CHECKED] = backend
            return backend
        reasons.append(f"{backend}: {reason}")
    # Also a foreign version fails each trial: tell the two apart without any OpenGL.
    reason = _trial(_NO_RENDERING)
    if reason is not None:
        raise VersionError(reason.removeprefix(f"{VersionError.__module__}.VersionError: "))
    raise GraphicsError(
        f"No OpenGL renders without a screen here ({'; '.join(reasons)}): "
        "apt-get install libegl1 libgl1 libosmesa6, "
        f"or {'unset' if wanted else 'set'} {_VARIABLE}."
    )


def child_environment(backend: str) -> dict[str, str]:
    """Environment variables of a Python child that imports what this process can, and renders."""
    # Mesa's software renderer starts threads; for frames this small they cost more than they bring
    # (one walker: 2000 frames/s without, 1500 with). A user's own choice stands.
    unthreaded = {"LP_NUM_THREADS": "0"}
    imports = {"PYTHONPATH": os.pathsep.join(path or os.curdir for path in sys.path)}
    return unthreaded | dict(os.environ) | imports | {_VARIABLE: backend}


def render_once(render: bool) -> None:
    """Load a model of one sphere and, if asked, draw it; raises if that fails."""
    if not render:
        with explained(_PACKAGES):
            _physics()
        return
    frame = _physics().render(height=32, width=32)
    if frame.min() == frame.max():
        raise GraphicsError("the frame of a lit sphere has a single colour")


def _physics() -> Any:
    from dm_control import mujoco

    return mujoco.Physics.from_xml_string(_SCENE)


def _trial(backend: str) -> str | None:
    """None if ``backend`` renders, otherwise the last line of what it said."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _TRIAL.format(render=backend != _NO_RENDERING)],
            env=child_environment(backend),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TRIAL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no frame within {_TRIAL_SECONDS:.0f} s"
    if done.returncode == 0:
        return None
    said = done.stderr.strip() or f"exit status {done.returncode} without a word"
    return said.splitlines()[-1]
