"""What ``pip install .`` brings."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 300
SOURCES = (".py", ".cc", ".h")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy, so that nothing is left in the repository."""
    source = tmp_path_factory.mktemp("source") / "repository"
    source.mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("coworld_jax", "experiments", "tests", "launch"):
        shutil.copytree(
            ROOT / name, source / name,
            ignore=lambda folder, names: [n for n in names if (Path(folder) / n).is_file()
                                          and not n.endswith(SOURCES)],
        )  # fmt: skip
    out = source.parent / "wheel"
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
         f"--wheel-dir={out}", "."],
        cwd=source, check=True, timeout=SECONDS,
    )  # fmt: skip
    (path,) = out.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        (metadata,) = [name for name in archive.namelist() if name.endswith("/METADATA")]
        return archive.namelist(), archive.read(metadata).decode()


def test_the_package_comes_whole_and_alone(wheel):
    names, _ = wheel
    assert {name for name in names if name.endswith(SOURCES)} == {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "coworld_jax").rglob("*")
        if path.suffix in SOURCES
    }
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"coworld_jax"}


def test_what_the_losses_need_comes_along_and_the_rest_when_asked(wheel):
    _, metadata = wheel
    asked = [
        Requirement(line.removeprefix("Requires-Dist: "))
        for line in metadata.splitlines()
        if line.startswith("Requires-Dist: ")
    ]
    plain = {requirement.name for requirement in asked if requirement.marker is None}
    assert plain == {"jax", "numpy", "chex"}

    def extra(name):
        return {
            requirement.name
            for requirement in asked
            if requirement.marker is not None and requirement.marker.evaluate({"extra": name})
        }

    assert {"flax", "optax", "orbax-checkpoint", "absl-py"} <= extra("train")
    assert extra("train") < extra("envs") and extra("train") < extra("dev")
    assert "dm_control" in extra("envs") and "pytest" in extra("dev")
