"""Table 5: the source's reward is sparse."""

from experiments.studying.study import NO_HIGHER_MEAN, Arm, Pair, Study

STUDY = Study(
    title="Table 5: a source with a sparse reward",
    question="Does CoWorld beat fine-tuning where the source's reward is for success only?",
    negative=NO_HIGHER_MEAN,
    arms=(
        Arm("DV2 Finetune", "finetune"),
        Arm("CoWorld", "coworld"),
    ),
    pairs=tuple(Pair("robodesk", f"{task}-sparse") for task in ("push_green", "open_slide")),
    seeds=3,
    size="paper",
    table="table_5",
    baseline="CoWorld",
)
