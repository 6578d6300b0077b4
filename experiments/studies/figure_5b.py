"""Figure 5b: how much the critic overestimates."""

from experiments.studies.table_2 import TASKS
from experiments.studying.study import Arm, Pair, Study

STUDY = Study(
    title="Figure 5b: value overestimation",
    question=(
        "Does the value constraint keep the critic from overestimating? Value bias is the critic's "
        "error at the states of an episode. The paper's own measure stands beside it: it compares "
        "methods, but it is not 0 for a critic that is right, so that it refutes nothing here. The "
        "paper draws its values and prints none."
    ),
    negative=(
        "over all pairs, the interval of the probability that Offline DV2 has a value bias nearer"
        " to 0 than CoWorld includes 0.5 or lies above it."
    ),
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
    further=("cumulative_bias",),
    baseline="CoWorld",
)
