"""The planar suite: pairs without a simulator, for runs of minutes. None of them is in the paper.

``--config=experiments/configs/planar.py:STRING``, where STRING is ``PAIR,SIZE,METHOD`` or a part of
it (see `experiments.configs.pairs`). The size is ``planar`` where STRING names none. The kinds of
pair are the paper's: other dynamics, as DeepMind Control; another task of the same scene, as
Meta-World; another look, as Meta-World to RoboDesk. `coworld_jax.envs.jittable.planar` says what
each task is.

| pair | kind | source | target |
|---|---|---|---|
| SCENE_downhill, SCENE_uphill | dynamics | SCENE | the same on a slope |
| reach_nothruster, arm_nojoint, push_nothruster | dynamics | SCENE | a limb is dead |
| arm | task | arm_still | arm |
| push | task | push_body | push |
| SCENE_desk | look | SCENE | another camera, look, action size and reward scale |

SCENE is ``reach``, ``arm`` or ``push``.

    python -m experiments.collect --task=planar/reach_desk --policy=dreamer --updates=2000 \\
        --reference=8.8 --config=experiments/configs/planar.py --workdir=runs/reach_desk-data \\
        --out=data/reach_desk
    python -m experiments.train --config=experiments/configs/planar.py:reach_desk \\
        --config.data=data/reach_desk --workdir=runs/reach_desk

The reference is 0.9 times the return of a scripted controller, which
``experiments/results/planar_suite.md`` has for each task.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from coworld_jax.envs.jittable.planar import VARIANTS
from experiments.configs.pairs import Pair, make_config
from experiments.configs.sizes import PLANAR


def _variants() -> dict[str, Pair]:
    """A pair for each variant that is the same task: its scene is the source."""
    same_task = [name for name, options in VARIANTS.items() if "goal" not in options]
    return {
        name: Pair("none", (f"planar/{name.partition('_')[0]}",), f"planar/{name}")
        for name in same_task
    }


PAIRS = _variants() | {
    "arm": Pair("none", ("planar/arm_still",), "planar/arm"),
    "push": Pair("none", ("planar/push_body",), "planar/push"),
}


def get_config(text: str = "") -> ConfigDict:
    """The configuration that ``text`` names."""
    return make_config(PLANAR, PAIRS, text, size="planar")
