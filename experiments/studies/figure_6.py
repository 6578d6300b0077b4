"""Figure 6: how sensitive CoWorld is to its three weights."""

from experiments.studying.study import Arm, Pair, Study

# The figure's other values; Table 8 has 1.0, 0.3 and 2.0. Its axes are only drawn.
BETA, MIX, ALPHA = (0.1, 0.5, 2.0, 5.0), (0.1, 0.5, 0.7, 0.9), (0.5, 1.0, 3.0, 5.0)

STUDY = Study(
    title="Figure 6: sensitivity",
    question=(
        "How does the return on button-press depend on beta_2, k and alpha? The figure draws DV2 "
        "Finetune as its reference. Twelve comparisons are made, each at 95 %: at least one "
        "interval lies above 0 by chance in up to 30 % of such studies."
    ),
    negative=(
        "the values of Table 8 are not among the best: another value of a weight is better, its"
        " interval above 0."
    ),
    arms=(
        Arm("CoWorld", "coworld"),
        Arm("DV2 Finetune", "finetune"),  # the run of Table 2
        *(Arm(f"beta_2 = {x}", "coworld", (f"coupling.alignment_scale={x}",)) for x in BETA),
        *(Arm(f"k = {x}", "coworld", (f"coupling.reward_mix={x}",)) for x in MIX),
        *(Arm(f"alpha = {x}", "coworld", (f"coupling.value_constraint_scale={x}",)) for x in ALPHA),
    ),
    pairs=(Pair("metaworld", "button-press"),),
    seeds=3,
    size="paper",
    table="figure_6",
    baseline="CoWorld",
)
