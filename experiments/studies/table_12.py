"""Table 12: how long each method trains, and how long an episode takes."""

from experiments.studies.table_2 import BASELINES, EWC
from experiments.studying.study import Arm, Pair, Study

STUDY = Study(
    title="Table 12: training time",
    question="How long does each method train on this machine, and how long does an episode take?",
    negative="none; it is a measurement.",
    arms=(
        *BASELINES,
        Arm("DV2 Finetune + EWC", "finetune", EWC),
        Arm("CoWorld", "coworld"),
    ),
    pairs=(Pair("metaworld", "button-press-topdown"),),
    seeds=3,
    size="paper",
    measure="minutes",
    further=("episode_seconds",),
    table="table_12",
    baseline="CoWorld",
)
