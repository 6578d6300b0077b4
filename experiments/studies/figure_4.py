"""Figure 4: from Meta-World to RoboDesk."""

from experiments.studying.study import NO_HIGHER_MEAN, Arm, Pair, Study

TASKS = ("push_green", "open_slide", "open_drawer", "upright_block_off_table")

STUDY = Study(
    title="Figure 4: from Meta-World to RoboDesk",
    question=(
        "Does CoWorld help across simulators, with another robot, camera, action size and reward?"
    ),
    refuted=NO_HIGHER_MEAN,
    arms=(
        Arm("Offline DV2", "offline_dv2"),
        Arm("DV2 Finetune", "finetune"),
        Arm("CoWorld (Best-Source)", "coworld"),
        Arm("CoWorld (Multi-Source)", "coworld", ending="-multi"),
    ),
    pairs=tuple(Pair("robodesk", name) for name in TASKS),
    seeds=3,
    size="paper",
    baseline="CoWorld (Best-Source)",
)
