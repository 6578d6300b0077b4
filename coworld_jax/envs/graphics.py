"""Which OpenGL renders here without a screen.

MuJoCo reads ``MUJOCO_GL`` when it is imported, and a failed attempt cannot be undone in the same
process; so each backend is tried in a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Collection
from typing import Any

from coworld_jax.envs.versions import VersionError, explained, installed_versions

BACKENDS = ("egl", "osmesa")  # in the order of trial: EGL also uses a GPU, and Mesa still ships it
_VARIABLE = "MUJOCO_GL"
_CHECKED = "COWORLD_JAX_CHECKED_GL"  # the value that rendered, for this process and its children
_SWITCHED_OFF = ("disabled", "disable", "off", "false", "0")  # MuJoCo's words for no rendering
_NO_RENDERING = _SWITCHED_OFF[0]
# Variables of a user, or of a cluster's module, that may keep OpenGL from working.
_INFLUENCES = (
    _VARIABLE,
    "MUJOCO_EGL_DEVICE_ID",
    "PYOPENGL_PLATFORM",
    "EGL_PLATFORM",
    "__EGL_VENDOR_LIBRARY_DIRS",
    "__EGL_VENDOR_LIBRARY_FILENAMES",
    "GALLIUM_DRIVER",
    "LIBGL_DRIVERS_PATH",
    "MESA_LOADER_DRIVER_OVERRIDE",
)
_PACKAGES = ("mujoco", "dm_control")
_TRIAL_SECONDS = 120.0
_TRIAL = "from coworld_jax.envs.graphics import render_once; render_once({render})"
_SCENE = "<mujoco><worldbody><light pos='0 0 3'/><geom size='.5'/></worldbody></mujoco>"


class GraphicsError(RuntimeError):
    """Nothing renders on this machine."""


def choose_backend(*, optional: bool = False) -> str:
    """The value of ``MUJOCO_GL`` that renders, also written into this process's environment.

    A value that the user set is the only one tried. The trial takes about a second and happens
    once: this process and its children read the answer from the environment.

    Args:
        optional: a user who switched MuJoCo's rendering off has no need of it, because the
            environment is the user's own.

    Raises:
        GraphicsError: no backend renders; the sentence names the variable that is in the way, or
            the Debian packages.
        VersionError: MuJoCo or dm_control is missing or does not load.
    """
    wanted = (os.environ.get(_VARIABLE) or "").strip().lower()
    if (optional and wanted in _SWITCHED_OFF) or (wanted and os.environ.get(_CHECKED) == wanted):
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
    reason = _trial(_NO_RENDERING, render=False)
    if reason is not None:
        raise VersionError(reason.removeprefix(f"{VersionError.__module__}.VersionError: "))
    blamed = _in_the_way()
    if blamed:
        values = " ".join(f"{name}={os.environ[name]}" for name in blamed)
        raise GraphicsError(
            f"OpenGL renders here, but not with {values} ({'; '.join(reasons)}): unset "
            f"{' and '.join(blamed)}."
        )
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


def _in_the_way() -> list[str]:
    """Variables without which OpenGL renders: a single one if that is enough; empty if none are."""
    given = [name for name in _INFLUENCES if os.environ.get(name)]

    def renders(without: list[str]) -> bool:
        return any(_trial(backend, without=without) is None for backend in BACKENDS)

    if not given or not renders(given):
        return []
    if len(given) == 1:
        return given
    return next(([name] for name in given if renders([name])), given)


def _trial(backend: str, *, render: bool = True, without: Collection[str] = ()) -> str | None:
    """None if ``backend`` renders, otherwise the last line of what it said.

    Args:
        render: if not, a model is loaded and nothing drawn.
        without: names of variables that are taken out of the environment.
    """
    environment = child_environment(backend)
    for name in set(without) - {_VARIABLE}:
        del environment[name]
    try:
        done = subprocess.run(
            [sys.executable, "-c", _TRIAL.format(render=render)],
            env=environment,
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
