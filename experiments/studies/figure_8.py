"""Figures 8 and 9: rollouts of several methods beside each other."""

from experiments.studying.study import Arm, Pair, Study

STUDY = Study(
    title="Figures 8 and 9: rollouts",
    question=(
        "What do the policies of the methods do? Each strip is an episode of the method's last "
        "evaluation. The episodes of two methods begin differently."
    ),
    negative="none; it is a picture.",
    arms=(
        Arm("Offline DV2", "offline_dv2"),
        Arm("DV2 Finetune", "finetune"),
        Arm("CoWorld", "coworld"),
    ),
    pairs=(
        Pair("metaworld", "handle-press"),
        Pair("metaworld", "button-press-topdown"),
        Pair("robodesk", "push_green"),
    ),
    seeds=1,
    size="paper",
    strips=True,
    baseline="CoWorld",
)
