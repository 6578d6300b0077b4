"""Table 6: against one agent for both domains."""

from experiments.studying.study import NO_HIGHER_MEAN, Arm, Pair, Study

STUDY = Study(
    title="Table 6: multi-task learning",
    question="Does CoWorld beat one world model that learns both domains at once?",
    negative=NO_HIGHER_MEAN,
    arms=(
        Arm("Multi-Task DV2", "multitask"),
        Arm("CoWorld", "coworld"),
    ),
    pairs=tuple(Pair("robodesk", task) for task in ("push_green", "open_slide")),
    seeds=3,
    size="paper",
    table="table_6",
    baseline="CoWorld",
)
