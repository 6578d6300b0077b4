"""Figure 3: every source with every target of Meta-World."""

from experiments.studies.table_2 import TASKS
from experiments.studying.study import Arm, Pair, Study

STUDY = Study(
    title="Figure 3: the transfer map",
    question=(
        "Which sources help which targets, and is the choice among several as good as the best one?"
    ),
    negative=(
        "no source helps: on no target has the best single source a difference to Offline DV2 whose"
        " interval lies above 0. The best of five means is too high by chance, so that such an"
        " interval alone is no proof that a source helps."
    ),
    arms=(
        Arm("Offline DV2", "offline_dv2"),
        *(Arm(task, "coworld", (f"source=metaworld/{task}",)) for task in TASKS),
        Arm("multi-source", "coworld", ending="-multi"),
    ),
    pairs=tuple(Pair("metaworld", name) for name in TASKS),
    seeds=3,
    size="paper",
    table="figure_3",
    ratio="Offline DV2",
    baseline="Offline DV2",
)
