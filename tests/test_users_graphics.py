"""Variables that keep OpenGL from rendering are named, before a worker fails on them."""

from __future__ import annotations

import os

import pytest
from test_envs import probe
from test_users_processes import FIRST

from coworld_jax.envs import EnvironmentPool, GraphicsError, graphics


def test_a_variable_that_is_in_the_way_is_named():
    done = probe(MUJOCO_EGL_DEVICE_ID="5")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("OpenGL renders here, but not with MUJOCO_EGL_DEVICE_ID=5 (")
    assert line.endswith("): unset MUJOCO_EGL_DEVICE_ID.") and "apt-get" not in line


@pytest.fixture
def machine(monkeypatch):
    """A machine whose OpenGL fails for as long as one of the given variables is there."""
    for name in graphics._INFLUENCES:
        monkeypatch.delenv(name, raising=False)
    blockers = set()

    def trial(backend, *, render=True, without=()):
        if not render:
            return None
        given = {name for name in blockers if name in os.environ} - set(without)
        return "ImportError: no display" if given or "everything" in blockers else None

    monkeypatch.setattr(graphics, "_trial", trial)
    return blockers


@pytest.mark.parametrize(
    ("blockers", "given", "way_out"),
    [
        ({"PYOPENGL_PLATFORM"}, {"PYOPENGL_PLATFORM": "osmesa"}, "unset PYOPENGL_PLATFORM."),
        (
            {"MUJOCO_EGL_DEVICE_ID"},
            {"PYOPENGL_PLATFORM": "egl", "MUJOCO_EGL_DEVICE_ID": "5"},
            "unset MUJOCO_EGL_DEVICE_ID.",
        ),
        (
            {"GALLIUM_DRIVER", "EGL_PLATFORM"},
            {"EGL_PLATFORM": "x11", "GALLIUM_DRIVER": "a", "PYOPENGL_PLATFORM": "egl"},
            "unset PYOPENGL_PLATFORM and EGL_PLATFORM and GALLIUM_DRIVER.",
        ),
        ({"MUJOCO_GL"}, {"MUJOCO_GL": "vulkan"}, "unset MUJOCO_GL."),
        (
            {"everything"},
            {"EGL_PLATFORM": "x11"},
            "apt-get install libegl1 libgl1 libosmesa6, or set MUJOCO_GL.",
        ),
        ({"everything"}, {}, "apt-get install libegl1 libgl1 libosmesa6, or set MUJOCO_GL."),
    ],
)
def test_as_few_variables_as_possible_are_blamed(machine, monkeypatch, blockers, given, way_out):
    machine |= blockers
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(GraphicsError) as info:
        graphics.choose_backend()
    assert str(info.value).endswith(f": {way_out}") and "no display" in str(info.value)


def test_the_value_may_be_in_capitals(machine, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", " OSMesa")
    monkeypatch.setenv(graphics._CHECKED, "")
    assert graphics.choose_backend() == os.environ["MUJOCO_GL"] == "osmesa"


def test_rendering_that_is_switched_off_is_refused_but_for_an_own_environment(
    tmp_path, monkeypatch
):
    for name in graphics._INFLUENCES:  # an earlier test may have chosen a renderer
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MUJOCO_GL", "off")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "bomb.py").write_text(FIRST)
    with EnvironmentPool("bomb:make") as pool:
        assert pool.spec.task == "bomb:make"
    said = []

    def trial(backend, *, render=True, without=()):
        said.append((backend, render, tuple(without)))
        return "RuntimeError: none" if render and not without else None

    monkeypatch.setattr(graphics, "_trial", trial)
    with pytest.raises(GraphicsError, match="but not with MUJOCO_GL=off .*: unset MUJOCO_GL"):
        EnvironmentPool("dmc/walker_walk")
    assert said == [("off", True, ()), ("disabled", False, ()), ("egl", True, ("MUJOCO_GL",))]
