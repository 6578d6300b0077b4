"""Table 4: the source agent reads the simulator's state."""

from experiments.studying.study import NO_HIGHER_MEAN, Arm, Pair, Study

STUDY = Study(
    title="Table 4: a source that reads states",
    question="Does CoWorld help where the source agent reads the state and the target images?",
    negative=NO_HIGHER_MEAN,
    arms=(
        Arm("Offline DV2", "offline_dv2"),
        Arm("CoWorld", "coworld"),
    ),
    pairs=tuple(Pair("robodesk", f"{task}-state") for task in ("push_green", "open_slide")),
    seeds=3,
    size="paper",
    table="table_4",
    baseline="CoWorld",
)
