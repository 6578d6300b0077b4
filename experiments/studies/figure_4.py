"""Figure 4: from Meta-World to RoboDesk.

A dataset ends at a share of the best return that was published for its target. The paper prints
none for ``open_drawer`` and ``upright_block_off_table``. Theirs is taken to be 0.8 of the most
that an episode can pay, since the best of ``push_green`` is 406 of 500.
"""

from experiments.studying.study import NO_HIGHER_MEAN, Arm, Pair, Study

PAIRS = (
    Pair("robodesk", "push_green"),
    Pair("robodesk", "open_slide"),
    Pair("robodesk", "open_drawer", best=0.8 * 500.0),
    Pair("robodesk", "upright_block_off_table", best=0.8 * 200.0),
)

STUDY = Study(
    title="Figure 4: from Meta-World to RoboDesk",
    question=(
        "Does CoWorld help across simulators, with another robot, camera, action size and reward?"
    ),
    negative=NO_HIGHER_MEAN,
    arms=(
        Arm("Offline DV2", "offline_dv2"),
        Arm("DV2 Finetune", "finetune"),
        Arm("CoWorld (Best-Source)", "coworld"),
        Arm("CoWorld (Multi-Source)", "coworld", ending="-multi"),
    ),
    pairs=PAIRS,
    seeds=3,
    size="paper",
    baseline="CoWorld (Best-Source)",
)
