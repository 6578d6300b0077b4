"""DeepMind Control: Tables 3, 9 and 10. beta_2 = 1.5, k = 0.9, alpha = 1.

``--config=experiments/configs/dmc.py:STRING``, where STRING is ``PAIR,SIZE,METHOD`` or a part of it
(see `experiments.configs.pairs`, which also has the schedule). Returns of CoWorld are the paper's,
mean ± std over 3 seeds of 10 episodes. Hours: ``walker_downhill,small`` 1.1, and 0.6 for its
dataset, on two CPU cores that other work shared; the others are not yet measured.

Table 3, dataset medium-replay, and Table 9, medium-expert (names that end in ``-expert``)

| pair | source | target | CoWorld |
|---|---|---|---|
| walker_downhill | walker_walk | walker_downhill | 629 ± 9 |
| walker_uphill | walker_walk | walker_uphill | 407 ± 141 |
| walker_nofoot | walker_walk | walker_nofoot | 426 ± 32 |
| cheetah_downhill | cheetah_run | cheetah_downhill | 745 ± 28 |
| cheetah_uphill | cheetah_run | cheetah_uphill | 225 ± 20 |
| cheetah_nopaw | cheetah_run | cheetah_nopaw | 493 ± 10 |
| walker_downhill-expert | walker_walk | walker_downhill | 848 ± 9 |
| walker_uphill-expert | walker_walk | walker_uphill | 774 ± 29 |
| walker_nofoot-expert | walker_walk | walker_nofoot | 919 ± 7 |
| cheetah_downhill-expert | cheetah_run | cheetah_downhill | 871 ± 13 |
| cheetah_uphill-expert | cheetah_run | cheetah_uphill | 475 ± 16 |
| cheetah_nopaw-expert | cheetah_run | cheetah_nopaw | 844 ± 1 |

    python -m experiments.collect --task=dmc/walker_downhill --policy=dreamer --until=medium \\
        --config=experiments/configs/dmc.py:paper --workdir=runs/walker_downhill-data \\
        --out=data/walker_downhill-medium
    python -m experiments.train --config=experiments/configs/dmc.py:walker_downhill \\
        --config.data=data/walker_downhill-medium --workdir=runs/walker_downhill

For ``-expert`` the collection goes on in its workdir with ``--until=expert`` and another ``--out``;
nothing else differs. For ``PAIR,small`` the dataset is collected with ``dmc.py:small`` as well:
both then render ``fast``, and not ``full``.

Table 10: the target is the source's own task before a moving background. The paper prints no std;
the dataset is taken to be medium-replay.

| pair | source | target | CoWorld | DV2 Finetune |
|---|---|---|---|---|
| walker_walk-background | walker_walk | walker_walk+background | 544 | 457 |
| cheetah_run-background | cheetah_run | cheetah_run+background | 296 | 220 |

    python -m experiments.collect --task=dmc/walker_walk+background --policy=dreamer \\
        --until=medium --config=experiments/configs/dmc.py:paper \\
        --workdir=runs/walker_walk-background-data --out=data/walker_walk-background-medium
    python -m experiments.train --config=experiments/configs/dmc.py:walker_walk-background \\
        --config.data=data/walker_walk-background-medium --workdir=runs/walker_walk-background

The paper's videos do not come along:
``+background`` alone draws pictures of its own, and ``+background=FOLDER`` in both commands
(``--task`` and ``--config.target``) takes yours.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from experiments.configs.pairs import Pair, Score, make_config
from experiments.configs.sizes import LOCOMOTION

_WALKER, _CHEETAH = ("dmc/walker_walk",), ("dmc/cheetah_run",)

PAIRS = {
    "walker_downhill": Pair("Table 3", _WALKER, "dmc/walker_downhill", Score(629, 9)),
    "walker_uphill": Pair("Table 3", _WALKER, "dmc/walker_uphill", Score(407, 141)),
    "walker_nofoot": Pair("Table 3", _WALKER, "dmc/walker_nofoot", Score(426, 32)),
    "cheetah_downhill": Pair("Table 3", _CHEETAH, "dmc/cheetah_downhill", Score(745, 28)),
    "cheetah_uphill": Pair("Table 3", _CHEETAH, "dmc/cheetah_uphill", Score(225, 20)),
    "cheetah_nopaw": Pair("Table 3", _CHEETAH, "dmc/cheetah_nopaw", Score(493, 10)),
    "walker_downhill-expert": Pair("Table 9", _WALKER, "dmc/walker_downhill", Score(848, 9)),
    "walker_uphill-expert": Pair("Table 9", _WALKER, "dmc/walker_uphill", Score(774, 29)),
    "walker_nofoot-expert": Pair("Table 9", _WALKER, "dmc/walker_nofoot", Score(919, 7)),
    "cheetah_downhill-expert": Pair("Table 9", _CHEETAH, "dmc/cheetah_downhill", Score(871, 13)),
    "cheetah_uphill-expert": Pair("Table 9", _CHEETAH, "dmc/cheetah_uphill", Score(475, 16)),
    "cheetah_nopaw-expert": Pair("Table 9", _CHEETAH, "dmc/cheetah_nopaw", Score(844, 1)),
    "walker_walk-background": Pair(
        "Table 10", _WALKER, "dmc/walker_walk+background", Score(544), Score(457)
    ),
    "cheetah_run-background": Pair(
        "Table 10", _CHEETAH, "dmc/cheetah_run+background", Score(296), Score(220)
    ),
}


def get_config(text: str = "small") -> ConfigDict:
    """The configuration of ``PAIR,SIZE,METHOD``, parts of which may be left out."""
    return make_config(LOCOMOTION, PAIRS, text)
