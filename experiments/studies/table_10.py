"""Table 10: the target is the source with another background, or with noisy actions."""

from experiments.studying.study import NO_HIGHER_MEAN, Arm, Pair, Study

STUDY = Study(
    title="Table 10: noise and backgrounds",
    question=(
        "Does CoWorld beat fine-tuning where the task is the same, and the background or the "
        "noise of the actions is not?"
    ),
    negative=NO_HIGHER_MEAN,
    arms=(
        Arm("DV2 Finetune", "finetune"),
        Arm("CoWorld", "coworld"),
    ),
    pairs=(
        Pair("dmc", "walker_walk-background"),
        Pair("dmc", "cheetah_run-background"),
        Pair("robodesk", "push_green-noise-1"),
        Pair("metaworld", "button-press-topdown-noise-0.1"),
        Pair("metaworld", "button-press-topdown-noise-1"),
        Pair("metaworld", "button-press-topdown-noise-5"),
    ),
    seeds=3,
    size="paper",
    table="table_10",
    baseline="CoWorld",
)
