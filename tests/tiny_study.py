"""Studies whose runs take seconds, and the data that they need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import tiny

from coworld_jax.config import flatten
from experiments.studying import running
from experiments.studying.study import Arm, Pair, Reference, Study
from experiments.studying.sweeps import is_number

ROOT = Path(__file__).resolve().parent.parent
_OWN = {"method", "seed", "source", "target", "data"}


def tiny_settings(method: str) -> tuple[str, ...]:
    """What makes the runs of a method tiny, as the settings of an arm."""
    flat = flatten(tiny.of_method(method))
    flat |= {"run.devices": 1}  # the tests' processes have two, which so few chunks cannot share
    return tuple(f"{path}={value}" for path, value in flat.items() if path not in _OWN)


def is_size(setting: str) -> bool:
    """Whether a setting of an arm says how large or how long its runs are, or names weights."""
    path = setting.partition("=")[0]
    is_length = path.endswith(("updates", "rounds"))
    return is_length or path.startswith("network.") or path in ("learning.batch", "weights")


def kind(arm: Arm) -> tuple[str, ...]:
    """What an arm does: its method, several sources or one, and its switches; no numbers."""

    def is_left_out(setting: str) -> bool:
        path, _, value = setting.partition("=")
        return is_size(setting) or is_number(value) or path == "source"

    return arm.method, arm.ending, *(s for s in arm.settings if not is_left_out(s))


def made_tiny(study: Study) -> Study:
    """A study with one seed, its first pair and the first arm of each `kind`, all tiny.

    Arms that differ from these in numbers or in the names of their sources are left out.
    """
    arms = {kind(arm): arm for arm in reversed(study.arms)}
    return study._replace(
        arms=tuple(
            arm._replace(
                settings=(*tiny_settings(arm.method), *(s for s in arm.settings if not is_size(s)))
            )
            for arm in reversed(arms.values())
        ),
        pairs=study.pairs[:1],
        seeds=1,
        size="small",
        baseline="",
        ratio="",
    )


ONLINE = (*tiny_settings("dreamer"), "domain=source", "model_updates=0")
TINY = Study(
    title="A tiny study",
    question="Does it run?",
    negative="it does not.",
    arms=(
        Arm("Behaviour cloning", "bc", tiny_settings("bc")),
        Arm("online", "dreamer", ONLINE, seeds=1),
    ),
    pairs=(Pair("planar", "reach_downhill", best=-1000.0, reference=Reference(-11.0, 97.3)),),
    seeds=2,
    size="planar",
    minutes=1.0,
)


def collected(root: Path, study: Study) -> None:
    """Random episodes in the place of each dataset: a tiny agent would never get far enough."""
    for data in running.make_plan(study, root).to_collect:
        command = [
            *(sys.executable, "-m", "experiments.collect", f"--task={data.task}"),
            *("--policy=random", "--episodes=2", "--profile=fast", "--seed=1"),
            f"--out={root / 'data' / data.name}",
        ]
        subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
