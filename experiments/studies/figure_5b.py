"""Figure 5b: how much the critic overestimates."""

from experiments.studies.table_2 import TASKS
from experiments.studying.study import Arm, Pair, Study

STUDY = Study(
    title="Figure 5b: value overestimation",
    question="Does the value constraint keep the critic from overestimating?",
    refuted="CoWorld's value bias is not nearer to 0 than that of Offline DV2.",
    arms=(
        Arm("Offline DV2", "offline_dv2"),
        Arm("DrQ+BC", "drq_bc"),
        Arm("CQL", "cql"),
        Arm("CoWorld w/o max", "coworld", ("coupling.constraint_max=False",)),
        Arm("CoWorld", "coworld"),
    ),
    pairs=tuple(Pair("metaworld", name) for name in TASKS),
    seeds=3,
    size="paper",
    measure="value_bias",
    baseline="CoWorld",
)
