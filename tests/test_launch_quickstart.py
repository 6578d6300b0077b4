"""The set-up and the quickstart with a pretended interpreter: what they install and start."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from executables import executable

ROOT = Path(__file__).resolve().parent.parent

# Notes its arguments. It has pip and is new enough; whether anything renders is in RENDERS.
PYTHON = """#!/usr/bin/env bash
case "$*" in
*coworld_jax.envs.probe) exit "$RENDERS" ;;
"-m "*) printf '%s\\n' "$*" >>calls ;;
esac
"""
ID = """#!/usr/bin/env bash
echo 1000  # no root, who would install renderers
"""


@pytest.fixture
def checkout(tmp_path):
    """What the set-up reads of the repository, and an environment to install into."""
    shutil.copytree(ROOT / "launch", tmp_path / "launch")
    for name in ("setup.py", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    executable(tmp_path / ".venv/bin/python", PYTHON)
    executable(tmp_path / "bin/id", ID)
    return tmp_path


def quickstart(checkout, *arguments, renders=True):
    """What it prints, and the calls of the interpreter."""
    environment = os.environ | {
        "PATH": f"{checkout}/bin:{os.environ['PATH']}",
        "RENDERS": "0" if renders else "1",
    }
    (checkout / "calls").write_text("")
    (checkout / "runs/quickstart").mkdir(parents=True, exist_ok=True)
    (checkout / "runs/quickstart_planar").mkdir(exist_ok=True)
    done = subprocess.run(
        ["bash", "launch/quickstart.sh", *arguments], cwd=checkout, env=environment,
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return done, (checkout / "calls").read_text().splitlines()


def installed(calls):
    """Extras that each call of pip asks for."""
    return [call.rpartition("[")[2].rstrip("]") for call in calls if call.startswith("-m pip")]


def collected(calls):
    """Tasks that are played."""
    return [call.split("--task=")[1].split()[0] for call in calls if "experiments.collect" in call]


def test_the_quickstart_installs_simulators_and_plays_the_walker(checkout):
    done, calls = quickstart(checkout)
    assert done.returncode == 0, done.stderr
    assert installed(calls) == ["envs,dev"] and collected(calls) == ["dmc/walker_downhill"]
    assert installed(quickstart(checkout)[1]) == []


def test_the_planar_pair_needs_no_simulators_and_the_walker_adds_them_later(checkout):
    _, calls = quickstart(checkout, "planar", renders=False)
    assert installed(calls) == ["dev"] and collected(calls) == ["planar/reach_desk"]
    _, calls = quickstart(checkout)
    assert installed(calls) == ["dev,envs"] and collected(calls) == ["dmc/walker_downhill"]
    assert installed(quickstart(checkout, "planar")[1]) == []


def test_where_nothing_renders_the_planar_pair_is_shown_and_a_sentence_says_so(checkout):
    done, calls = quickstart(checkout, renders=False)
    assert done.returncode == 0 and collected(calls) == ["planar/reach_desk"]
    assert "MuJoCo cannot draw here, so the planar pair is shown instead" in done.stdout
    assert "sudo apt-get install libegl1" in done.stderr


def test_on_other_systems_than_linux_the_planar_pair_is_shown(checkout):
    executable(checkout / "bin/uname", "#!/usr/bin/env bash\necho Darwin\n")
    done, calls = quickstart(checkout)
    assert done.returncode == 0, done.stderr
    assert installed(calls) == ["dev"] and collected(calls) == ["planar/reach_desk"]
    assert "set up on Linux alone, so the planar pair is shown instead" in done.stdout


def test_an_unknown_pair_is_refused_before_anything_is_installed(checkout):
    done, calls = quickstart(checkout, "cheetah")
    assert done.returncode == 1 and not calls
    assert "unknown pair cheetah; use walker or planar" in done.stderr
