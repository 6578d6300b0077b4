"""Does CoWorld help from walker_walk to walker_downhill?"""

from experiments.studying.study import Arm, Pair, Study

STUDY = Study(
    title="walker_walk to walker_downhill",
    question=(
        "With the same data, does CoWorld reach a higher return than an offline DreamerV2 "
        "without couplings, and than fine-tuning?"
    ),
    negative="the interval of the difference of CoWorld to dreamer includes 0 or lies below it.",
    arms=(
        Arm("CoWorld", "coworld"),
        Arm("dreamer", "dreamer", ("domain=target", "updates=6000", "model_updates=1000")),
        Arm("DV2 Finetune", "finetune"),
    ),
    pairs=(Pair("dmc", "walker_downhill"),),
    seeds=3,
    size="small",
    minutes=66.0,
    hours=10.0,
    baseline="dreamer",
    table="table_3",
)
