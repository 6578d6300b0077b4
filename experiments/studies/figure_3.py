"""Figure 3: every source with every target of Meta-World."""

from experiments.studies.table_2 import TASKS
from experiments.studying.study import Arm, Pair, Study

STUDY = Study(
    title="Figure 3: the transfer map",
    question=(
        "Which sources help which targets, and is the choice among several as good as the best one?"
    ),
    refuted=(
        "a source that resembles its target helps no more than others: no row has a best source"
        " whose interval lies above Offline DV2's."
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
